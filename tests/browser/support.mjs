// A gateway as `weir demo` has it, a browser, and what tests do with both again and again.
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const ROOT = new URL('../..', import.meta.url).pathname;
const TARGET = process.env.CARGO_TARGET_DIR ?? join(ROOT, 'target');
export const SCREENSHOTS = join(TARGET, 'screenshots');
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

async function freePort() {
  const server = createServer();
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  const { port } = server.address();
  await new Promise((done) => server.close(done));
  return port;
}

/** Starts `weir demo`: a gateway, providers, and one key of one user, all on this machine. */
export async function demo() {
  const [listen, admin] = [await freePort(), await freePort()];
  const program = process.env.WEIR_BIN ?? join(TARGET, 'debug/weir');
  const child = spawn(program, ['demo', '--listen', `127.0.0.1:${listen}`, '--admin', `127.0.0.1:${admin}`], { stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  await new Promise((done, failed) => {
    const timer = setTimeout(() => failed(new Error(`the demo does not start: ${said}`)), 30_000);
    child.once('exit', (code) => failed(new Error(`the demo ended with ${code}: ${said}`)));
    child.stdout.on('data', (piece) => {
      said += piece;
      if (said.includes('What is metered')) {
        clearTimeout(timer);
        done();
      }
    });
  });
  const [, key] = /client key\s+(\S+)/.exec(said);
  const [, token] = /admin token\s+(\S+)/.exec(said);
  return {
    key,
    token,
    gateway: `http://127.0.0.1:${listen}`,
    console: `http://127.0.0.1:${admin}`,
    async api(method, path, body) {
      const headers = { authorization: `Bearer ${token}`, 'content-type': 'application/json' };
      const response = await fetch(`http://127.0.0.1:${admin}/admin/api/${path}`, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
      const text = await response.text();
      if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${text}`);
      return text === '' ? null : JSON.parse(text);
    },
    chat(secret, model = 'gpt-4o') {
      return fetch(`http://127.0.0.1:${listen}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${secret}`, 'content-type': 'application/json' },
        body: JSON.stringify({ model, messages: [{ role: 'user', content: 'Hello' }] }),
      });
    },
    /** Waits until a request is among the records: whoever follows from now on hears of it no more. */
    async recorded(id) {
      for (const end = Date.now() + 10_000; ; await new Promise((done) => setTimeout(done, 50))) {
        const found = await this.api('GET', `requests/${id}`).catch((error) => error);
        if (!(found instanceof Error)) return;
        if (Date.now() > end) throw found;
      }
    },
    async stop() {
      if (child.exitCode !== null) return;
      const ended = new Promise((done) => child.once('exit', done));
      child.removeAllListeners('exit');
      child.once('exit', () => {});
      const gone = new Promise((done) => child.once('close', done));
      child.kill('SIGINT');
      await Promise.race([ended, gone]);
    },
  };
}

/** Starts `weir run` with a configuration made by `configure`, on a data directory that `fill` has filled. */
export async function filled(configure, fill) {
  const home = mkdtempSync(join(tmpdir(), 'weir-console-'));
  const [listen, admin] = [await freePort(), await freePort()];
  const [token, dataDir] = ['weir-admin-of-the-test', join(home, 'data')];
  mkdirSync(dataDir);
  fill(dataDir);
  writeFileSync(join(home, 'weir.yaml'), JSON.stringify(configure({ listen, admin, token, dataDir }), null, 1));
  const program = process.env.WEIR_BIN ?? join(TARGET, 'debug/weir');
  const child = spawn(program, ['run', '-c', join(home, 'weir.yaml')], { stdio: ['ignore', 'ignore', 'inherit'] });
  const at = `http://127.0.0.1:${admin}`;
  const api = async (path, options = {}) => {
    const response = await fetch(`${at}/admin/api/${path}`, { ...options, headers: { authorization: `Bearer ${token}` } });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  };
  return {
    token,
    console: at,
    api,
    /** Waits until `is` says so of what a path answers. */
    async until(path, is, seconds) {
      for (const end = Date.now() + seconds * 1000; ; ) {
        const said = await api(path).catch((error) => error);
        if (!(said instanceof Error) && is(said)) return said;
        if (Date.now() > end || child.exitCode !== null) throw new Error(`${path}: ${JSON.stringify(said)?.slice(0, 200)} ${said}`);
        await new Promise((done) => setTimeout(done, 200));
      }
    },
    async stop() {
      const gone = new Promise((done) => child.once('close', done));
      if (child.exitCode === null) {
        child.kill('SIGINT');
        await gone;
      }
      rmSync(home, { recursive: true, force: true });
    },
  };
}

export function browser() {
  // As root, as in most containers, Chromium's own sandbox does not start.
  const args = process.getuid?.() === 0 ? ['--no-sandbox'] : [];
  return chromium.launch({ executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args });
}

/** A page of its own, as a new visitor has it. What the page itself does wrong is collected. */
export async function visit(chrome, options = {}) {
  const context = await chrome.newContext({ viewport: { width: 1280, height: 860 }, locale: 'en-US', ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  page.wrong = [];
  page.on('pageerror', (error) => page.wrong.push(String(error)));
  page.on('console', (message) => {
    if (/Content.Security.Policy/i.test(message.text())) page.wrong.push(message.text());
  });
  return page;
}

export async function signIn(page, gateway) {
  await page.goto(`${gateway.console}/`);
  await page.getByLabel('Admin token').fill(gateway.token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
}

export async function signInUser(page, gateway, username, password) {
  await page.goto(`${gateway.console}/admin/ui/`);
  await page.getByText('User name and password').click();
  await page.getByLabel('User name').last().fill(username);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('heading', { name: 'My usage', level: 1 }).waitFor();
}

/** What axe finds that keeps somebody out. The policy of the page lets no script in; the debugger may. */
export async function serious(page) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).slice(0, 3).join(' | ')}`);
}

/** Another tab is looked at, or this one again, as far as the page can tell. */
export async function hide(page, hidden) {
  await page.evaluate((hidden) => {
    Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden });
    document.dispatchEvent(new Event('visibilitychange'));
  }, hidden);
}

export async function picture(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
