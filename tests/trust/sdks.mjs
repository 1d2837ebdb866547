// The providers' SDKs for Node: the same calls, whoever answers them. Prints what each call gave, as JSON.

import Anthropic from '@anthropic-ai/sdk';
import { GoogleGenAI } from '@google/genai';
import OpenAI from 'openai';

const url = process.env.WEIR_URL;
const key = process.env.WEIR_KEY;

const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const anthropic = new Anthropic({ baseURL: url, apiKey: key, maxRetries: 0 });
const google = new GoogleGenAI({ apiKey: key, httpOptions: { baseUrl: url } });

const messages = [{ role: 'user', content: 'Count to three.' }];
const tool = {
  type: 'function',
  function: { name: 'weather', parameters: { type: 'object', properties: { city: { type: 'string' } } } },
};

async function all(stream) {
  const items = [];
  for await (const item of stream) items.push(item);
  return items;
}

const calls = {
  'openai: chat': () => openai.chat.completions.create({ model: 'gpt-4o', messages }),
  'openai: chat with tools': () => openai.chat.completions.create({ model: 'gpt-4o', messages, tools: [tool] }),
  'openai: streamed chat': async () =>
    all(await openai.chat.completions.create({
      model: 'gpt-4o', messages, stream: true, stream_options: { include_usage: true },
    })),
  'openai: completions': () => openai.completions.create({ model: 'gpt-4o', prompt: 'one two' }),
  'openai: embeddings': () => openai.embeddings.create({ model: 'text-embedding-3-small', input: ['a', 'b'] }),
  'openai: responses': () => openai.responses.create({ model: 'gpt-4o', input: 'one two' }),
  'openai: streamed responses': async () =>
    all(await openai.responses.create({ model: 'gpt-4o', input: 'one two', stream: true })),
  'openai: an error': () =>
    openai.chat.completions.create({ model: 'gpt-4o', messages }, { headers: { 'x-mock-status': '429' } }),
  'anthropic: messages': () =>
    anthropic.messages.create({ model: 'claude-sonnet-4-5', max_tokens: 50, messages }),
  'anthropic: streamed messages': async () =>
    all(await anthropic.messages.create({ model: 'claude-sonnet-4-5', max_tokens: 50, messages, stream: true })),
  'anthropic: a stream helper': () =>
    anthropic.messages.stream({ model: 'claude-sonnet-4-5', max_tokens: 50, messages }).finalMessage(),
  'anthropic: count tokens': () => anthropic.messages.countTokens({ model: 'claude-sonnet-4-5', messages }),
  'anthropic: an error': () =>
    anthropic.messages.create(
      { model: 'claude-sonnet-4-5', max_tokens: 50, messages }, { headers: { 'x-mock-status': '529' } },
    ),
  'google: generate': async () => {
    const answer = await google.models.generateContent({ model: 'gemini-2.5-flash', contents: 'Count.' });
    return { text: answer.text, usage: answer.usageMetadata };
  },
  'google: streamed generate': async () => {
    const stream = await google.models.generateContentStream({ model: 'gemini-2.5-flash', contents: 'Count.' });
    return (await all(stream)).map(({ text, usageMetadata }) => ({ text, usageMetadata }));
  },
  'google: embeddings': async () => {
    const answer = await google.models.embedContent({ model: 'gemini-embedding-001', contents: ['a', 'b'] });
    return answer.embeddings;
  },
  'google: count tokens': async () => {
    const answer = await google.models.countTokens({ model: 'gemini-2.5-flash', contents: 'Count.' });
    return { tokens: answer.totalTokens };
  },
};

const given = [];
for (const [call, ask] of Object.entries(calls)) {
  let result;
  try {
    result = { answer: await ask() };
  } catch (error) {
    result = { error: error.constructor.name, status: error.status ?? null, body: error.error ?? null };
  }
  // What is not in JSON is not in an answer.
  given.push({ call, ...JSON.parse(JSON.stringify(result)) });
}
console.log(JSON.stringify(given));
