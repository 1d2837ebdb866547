// What a person pastes to use a key: one text for each client. Knows nothing of where the key comes from.
import type { Protocol } from '../api/types';

export type Client = 'curl' | 'python' | 'node' | 'claude' | 'codex' | 'gemini';
export const CLIENTS: readonly Client[] = ['curl', 'python', 'node', 'claude', 'codex', 'gemini'];

export interface Target {
  /** The gateway's address, without a slash at its end. */
  base: string;
  key: string;
  model: string;
  protocol: Protocol;
}

export function snippet(client: Client, target: Target): string {
  switch (client) {
    case 'curl':
      return curl(target);
    case 'python':
      return python(target);
    case 'node':
      return node(target);
    case 'claude':
      return [
        `export ANTHROPIC_BASE_URL=${shell(target.base)}`,
        `export ANTHROPIC_AUTH_TOKEN=${shell(target.key)}`,
        ...(target.protocol === 'anthropic' && target.model ? [`export ANTHROPIC_MODEL=${shell(target.model)}`] : []),
        'claude',
      ].join('\n');
    case 'codex':
      return [
        '# ~/.codex/config.toml',
        `model = ${json(target.model)}`,
        'model_provider = "weir"',
        '',
        '[model_providers.weir]',
        'name = "Weir"',
        `base_url = ${json(`${target.base}/v1`)}`,
        'env_key = "WEIR_API_KEY"',
        'wire_api = "responses"',
        '',
        '# then, in a shell',
        `# export WEIR_API_KEY=${shell(target.key)}`,
        '# codex',
      ].join('\n');
    case 'gemini':
      return [
        `export GOOGLE_GEMINI_BASE_URL=${shell(target.base)}`,
        `export GEMINI_API_KEY=${shell(target.key)}`,
        target.model ? `gemini -m ${shell(target.model)}` : 'gemini',
      ].join('\n');
  }
}

function curl({ base, key, model, protocol }: Target): string {
  const body = (value: unknown): string => shell(JSON.stringify(value));
  const messages = [{ role: 'user', content: 'Hello' }];
  switch (protocol) {
    case 'openai':
      return [
        `curl ${shell(`${base}/v1/chat/completions`)} \\`,
        `  -H ${shell(`Authorization: Bearer ${key}`)} \\`,
        `  -H 'Content-Type: application/json' \\`,
        `  -d ${body({ model, messages })}`,
      ].join('\n');
    case 'anthropic':
      return [
        `curl ${shell(`${base}/v1/messages`)} \\`,
        `  -H ${shell(`x-api-key: ${key}`)} \\`,
        `  -H 'anthropic-version: 2023-06-01' \\`,
        `  -H 'Content-Type: application/json' \\`,
        `  -d ${body({ model, max_tokens: 256, messages })}`,
      ].join('\n');
    case 'gemini':
      return [
        `curl ${shell(`${base}/v1beta/models/${model}:generateContent`)} \\`,
        `  -H ${shell(`x-goog-api-key: ${key}`)} \\`,
        `  -H 'Content-Type: application/json' \\`,
        `  -d ${body({ contents: [{ role: 'user', parts: [{ text: 'Hello' }] }] })}`,
      ].join('\n');
  }
}

function python({ base, key, model, protocol }: Target): string {
  switch (protocol) {
    case 'openai':
      return [
        'from openai import OpenAI',
        '',
        `client = OpenAI(base_url=${json(`${base}/v1`)}, api_key=${json(key)})`,
        'answer = client.chat.completions.create(',
        `    model=${json(model)},`,
        '    messages=[{"role": "user", "content": "Hello"}],',
        ')',
        'print(answer.choices[0].message.content)',
      ].join('\n');
    case 'anthropic':
      return [
        'from anthropic import Anthropic',
        '',
        `client = Anthropic(base_url=${json(base)}, api_key=${json(key)})`,
        'answer = client.messages.create(',
        `    model=${json(model)},`,
        '    max_tokens=256,',
        '    messages=[{"role": "user", "content": "Hello"}],',
        ')',
        'print(answer.content[0].text)',
      ].join('\n');
    case 'gemini':
      return [
        'from google import genai',
        '',
        `client = genai.Client(api_key=${json(key)}, http_options={"base_url": ${json(base)}})`,
        `answer = client.models.generate_content(model=${json(model)}, contents="Hello")`,
        'print(answer.text)',
      ].join('\n');
  }
}

function node({ base, key, model, protocol }: Target): string {
  switch (protocol) {
    case 'openai':
      return [
        "import OpenAI from 'openai';",
        '',
        `const client = new OpenAI({ baseURL: ${json(`${base}/v1`)}, apiKey: ${json(key)} });`,
        'const answer = await client.chat.completions.create({',
        `  model: ${json(model)},`,
        "  messages: [{ role: 'user', content: 'Hello' }],",
        '});',
        'console.log(answer.choices[0].message.content);',
      ].join('\n');
    case 'anthropic':
      return [
        "import Anthropic from '@anthropic-ai/sdk';",
        '',
        `const client = new Anthropic({ baseURL: ${json(base)}, apiKey: ${json(key)} });`,
        'const answer = await client.messages.create({',
        `  model: ${json(model)},`,
        '  max_tokens: 256,',
        "  messages: [{ role: 'user', content: 'Hello' }],",
        '});',
        'console.log(answer.content[0].text);',
      ].join('\n');
    case 'gemini':
      return [
        "import { GoogleGenAI } from '@google/genai';",
        '',
        `const client = new GoogleGenAI({ apiKey: ${json(key)}, httpOptions: { baseUrl: ${json(base)} } });`,
        `const answer = await client.models.generateContent({ model: ${json(model)}, contents: 'Hello' });`,
        'console.log(answer.text);',
      ].join('\n');
  }
}

const json = (text: string): string => JSON.stringify(text);

/** Quoted for a shell where that is needed. */
export function shell(text: string): string {
  return /^[\w./:@%+=,-]+$/.test(text) ? text : `'${text.replaceAll("'", `'\\''`)}'`;
}
