// The console in a browser, before a gateway that meters.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { browser, demo, hide, picture, serious, signIn, signInUser, visit } from './support.mjs';

let gateway, chrome;
before(async () => {
  gateway = await demo();
  chrome = await browser();
  for (let i = 0; i < 5; i += 1) await (await gateway.chat(gateway.key)).text();
});
after(async () => {
  await chrome?.close();
  await gateway?.stop();
});

const PAGES = ['Overview', 'Requests', 'Usage', 'Keys', 'Channels', 'Users', 'Prices', 'Configuration', 'Connect'];

test('a wrong token is refused and the right one lets in; nothing secret is kept', async () => {
  const page = await visit(chrome);
  await page.goto(`${gateway.console}/`);
  await page.getByLabel('Admin token').fill('weir-admin-wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('alert').getByText('This is not the admin token.').waitFor();
  assert.deepEqual(await serious(page), []);
  await signIn(page, gateway);
  const kept = await page.evaluate(() => JSON.stringify({ ...localStorage, ...sessionStorage }) + document.cookie);
  assert.equal(kept.includes(gateway.token) || /weir_session/.test(kept), false);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin token').waitFor();
  await page.context().close();
});

test('a sign-out that the gateway does not take is told, and signs nobody out', async () => {
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.route('**/admin/api/logout', (route) => route.abort());
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByText('You are still signed in.').waitFor();
  assert.equal(await page.getByLabel('Admin token').count(), 0);
  await page.unroute('**/admin/api/logout');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin token').waitFor();
  await page.context().close();
});

test('a tab goes on as whoever has signed in in another tab', async () => {
  await gateway.api('POST', 'users', { name: 'other', password: 'a long enough one' });
  const page = await visit(chrome);
  await signIn(page, gateway);
  const body = { username: 'other', password: 'a long enough one' };
  assert.equal((await page.request.post(`${gateway.console}/admin/api/login`, { data: body, headers: { origin: gateway.console } })).status(), 200);
  await page.goto(`${gateway.console}/admin/ui/`);
  await page.getByRole('heading', { name: 'My usage', level: 1 }).waitFor();
  const again = await page.request.post(`${gateway.console}/admin/api/login`, { data: { token: gateway.token }, headers: { origin: gateway.console } });
  assert.equal(again.status(), 200);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Admin token').waitFor();
  assert.equal((await page.request.get(`${gateway.console}/admin/api/session`)).status(), 401);
  await page.context().close();
});

test('who changes a password is told that the old one is wrong, and to sign in when the session is gone', async () => {
  await gateway.api('POST', 'users', { name: 'changer', password: 'a long enough one' });
  const page = await visit(chrome);
  await signInUser(page, gateway, 'changer', 'a long enough one');
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByLabel('Present password').fill('not the right one');
  await page.getByLabel('New password').fill('another long one');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('alert').getByText('The present password is wrong.').waitFor();
  await gateway.api('PATCH', 'users/changer', { password: 'set by somebody else' });
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByLabel('Admin token').waitFor();
  await page.context().close();
});

test('a key is made, used with the shown snippet, and its request arrives live', async () => {
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.getByRole('link', { name: 'Keys', exact: true }).click();
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByLabel('Name').fill('made-here');
  await page.getByRole('button', { name: 'Create' }).click();
  const secret = await page.getByTestId('secret').inputValue();
  assert.match(secret, /^sk-weir-/);
  assert.ok((await page.getByTestId('snippet').textContent()).includes(secret));
  assert.deepEqual(await serious(page), []);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByRole('link', { name: 'made-here' }).waitFor();
  assert.equal((await page.content()).includes(secret), false, 'shown once');

  await page.getByRole('link', { name: 'Requests', exact: true }).click();
  await page.getByText('Live', { exact: true }).waitFor();
  assert.equal((await gateway.chat(secret)).status, 200);
  await page.getByRole('cell', { name: 'made-here' }).first().waitFor();
  await page.getByRole('row', { name: /made-here/ }).first().getByRole('link').click();
  await page.getByRole('heading', { name: 'What happened when' }).waitFor();
  await page.getByText('Attempt 1', { exact: false }).first().waitFor();

  await page.getByRole('link', { name: 'Keys', exact: true }).click();
  await page.getByRole('link', { name: 'made-here' }).click();
  const byDay = page.getByRole('region', { name: 'By day' });
  await byDay.getByRole('button', { name: 'Requests' }).click();
  await picture(page, 'key-used');
  await byDay.getByRole('img', { name: 'Requests, 1 in all, Last 30 days' }).waitFor();
  await picture(page, 'key-used');
  assert.deepEqual(await serious(page), []);
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

test('what happened while nobody looked is there when somebody looks again', async () => {
  const { id, key } = await gateway.api('POST', 'keys', { name: 'unseen' });
  await (await gateway.chat(key)).text();
  const page = await visit(chrome);
  await signIn(page, gateway);
  for (const [path, title] of [['requests?key=unseen', 'Requests'], ['', 'Last requests'], [`keys/${id}`, 'Requests of this key']]) {
    await page.goto(`${gateway.console}/admin/ui/${path}`);
    const list = page.getByRole('region', { name: title, exact: true });
    await page.getByText('Live', { exact: true }).waitFor();
    await list.getByRole('row').nth(1).waitFor();
    await hide(page, true);
    await page.getByText('Paused', { exact: true }).waitFor();
    const answer = await gateway.chat(key);
    await answer.text();
    const request = answer.headers.get('x-weir-request-id');
    await gateway.recorded(request);
    await hide(page, false);
    await list.locator(`a[href$="${request}"]`).waitFor();
  }
  await page.context().close();
});

test('a limit that is edited is hit', async () => {
  const { id, key } = await gateway.api('POST', 'keys', { name: 'limited' });
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.goto(`${gateway.console}/admin/ui/keys/${id}`);
  await page.getByRole('button', { name: 'Edit' }).click();
  await page.getByRole('textbox', { name: 'Requests per minute' }).fill('2');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved').waitFor();
  const statuses = [];
  for (let i = 0; i < 3; i += 1) statuses.push((await gateway.chat(key)).status);
  assert.deepEqual(statuses, [200, 200, 429]);
  await page.reload();
  await page.getByText('2 / 2').waitFor();
  await page.context().close();
});

test('a mistake is said beside its field', async () => {
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.goto(`${gateway.console}/admin/ui/keys?new=1`);
  await page.getByLabel('Name').fill('mistaken');
  await page.getByText('More settings').click();
  await page.getByRole('textbox', { name: 'Requests per minute' }).fill('many');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.locator('[aria-invalid=true]').waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.context().close();
});

test('a channel is drained and serves again', async () => {
  await gateway.api('POST', 'channels', {
    name: 'emptied', protocol: 'openai', base_url: 'https://api.example.com', keys: [{ name: 'main', value: 'sk-x' }], models: ['emptied-*'],
  });
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.goto(`${gateway.console}/admin/ui/channels`);
  const row = page.getByRole('row', { name: /emptied/ });
  await row.getByText('Healthy').waitFor();
  await page.getByRole('button', { name: 'Drain: emptied' }).click();
  const question = page.getByRole('dialog', { name: 'Drain emptied?' });
  await question.getByRole('button', { name: 'Drain' }).click();
  await row.getByText('Draining').waitFor();
  assert.equal((await gateway.api('GET', 'channels/emptied')).state, 'draining');
  await picture(page, 'channels-drained');
  await page.getByRole('button', { name: 'Serve again: emptied' }).click();
  await row.getByText('Healthy').waitFor();
  assert.equal((await gateway.api('GET', 'channels/emptied')).state, 'healthy');
  await gateway.api('DELETE', 'channels/emptied');
  await page.context().close();
});

test('a channel is tested, and says what came of it', async () => {
  await gateway.api('POST', 'channels', {
    name: 'nobody', protocol: 'openai', base_url: 'https://nobody.invalid', keys: [{ name: 'main', value: 'sk-x' }], models: ['gone'],
  });
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.goto(`${gateway.console}/admin/ui/channels`);
  const { rows } = await gateway.api('GET', 'channels');
  const works = rows.find(({ origin, protocol }) => origin === 'file' && protocol === 'openai').name;
  for (const [name, said] of [[works, / answered in /], ['nobody', /^No good answer: /]]) {
    await page.getByRole('button', { name: `Test now: ${name}`, exact: true }).click();
    const dialog = page.getByRole('dialog', { name: `Test ${name}` });
    await dialog.getByRole('button', { name: 'Test now' }).click();
    const run = dialog.getByTestId('run');
    await run.waitFor();
    assert.match(await run.textContent(), said);
    assert.deepEqual(await serious(page), []);
    await picture(page, `channel-test-${name}`);
    await dialog.getByRole('button', { name: 'Close' }).last().click();
  }
  await gateway.api('DELETE', 'channels/nobody');
  await page.context().close();
});

test('when a channel is tried again and when it rests is set in its form', async () => {
  await gateway.api('POST', 'channels', {
    name: 'patient', protocol: 'openai', base_url: 'https://api.example.com', keys: [{ name: 'main', value: 'sk-x' }], models: ['patient-*'],
  });
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.goto(`${gateway.console}/admin/ui/channels`);
  await page.getByRole('button', { name: 'Edit patient' }).click();
  await page.getByText('Retries and cooldown').click();
  await page.getByLabel('Tried again after').fill('connect, sometimes');
  await page.getByLabel('Rests for').fill('90s');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.locator('[aria-invalid=true]').waitFor();
  await page.getByLabel('Tried again after').fill('connect, 503');
  await page.getByLabel('Rests for').scrollIntoViewIfNeeded();
  assert.deepEqual(await serious(page), []);
  await picture(page, 'channel-form');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByText('Saved').waitFor();
  const { retry, cooldown } = await gateway.api('GET', 'channels/patient');
  assert.deepEqual([retry.on, retry.attempts, cooldown], [['connect', 503], 2, { failures: 3, for: '90s' }]);
  await gateway.api('DELETE', 'channels/patient');
  await page.context().close();
});

test('the order of channels is changed by keys and stays', async () => {
  for (const name of ['first', 'second']) {
    await gateway.api('POST', 'channels', {
      name, protocol: 'openai', base_url: 'https://api.example.com', keys: [{ name: 'main', value: 'sk-x' }], models: [`${name}-*`],
    });
  }
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.getByRole('link', { name: 'Channels', exact: true }).click();
  await page.getByRole('button', { name: 'Move second', exact: true }).focus();
  await page.keyboard.press('ArrowUp');
  await page.getByText('The order is saved').waitFor();
  const { rows } = await gateway.api('GET', 'channels');
  const order = rows.filter(({ origin }) => origin === 'api').sort((a, b) => a.priority - b.priority).map(({ name }) => name);
  assert.deepEqual(order, ['second', 'first']);
  await page.context().close();
});

test('the order of channels is changed by the mouse and stays', async () => {
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.getByRole('link', { name: 'Channels', exact: true }).click();
  const [grip, above] = [page.getByRole('button', { name: 'Move first', exact: true }), page.getByRole('button', { name: 'Move second', exact: true })];
  const middle = async (of) => {
    await of.scrollIntoViewIfNeeded();
    const { x, y, width, height } = await of.boundingBox();
    return [x + width / 2, y + height / 2];
  };
  const order = async () => {
    const { rows } = await gateway.api('GET', 'channels');
    return rows.filter(({ origin }) => origin === 'api').sort((a, b) => a.priority - b.priority).map(({ name }) => name);
  };
  assert.deepEqual(await order(), ['second', 'first']);
  const [, to] = await middle(above);
  const [x, from] = await middle(grip);
  await page.mouse.move(x, from);
  await page.mouse.down();
  await page.mouse.move(x, to - 8, { steps: 8 });
  await page.getByText('first is at place 1 of 2').waitFor({ state: 'attached' });
  assert.deepEqual(await order(), ['second', 'first'], 'nothing is in force while it is held');
  await picture(page, 'channels-dragged');
  await page.mouse.up();
  await page.getByText('The order is saved').waitFor();
  assert.deepEqual(await order(), ['first', 'second']);
  await page.reload();
  const names = page.locator('tr[data-name]');
  await names.first().waitFor();
  assert.deepEqual(await names.evaluateAll((rows) => rows.map((row) => row.dataset.name)), ['first', 'second']);
  await page.context().close();
});

test('what needs attention leads to what it is about, in the words of the language', async () => {
  const page = await visit(chrome, { locale: 'zh-CN' });
  // To spend budgets so far takes longer than a test may.
  await page.route('**/admin/api/overview', async (route) => {
    const answer = await route.fetch();
    const said = await answer.json();
    const near = (subject, of, id) => {
      const values = { of, id, period: 'day', spent_usd: '4.5', budget_usd: '5', percent: 90 };
      said.attention.push({ kind: 'budget_near', level: 'warning', subject, values });
    };
    near('laptop', 'key', '4711');
    near('alice', 'user', null);
    near('provider', 'channel', null);
    const values = { state: 'cooling', cooling_s: 12, keys: ['main'], models: ['gpt-*'] };
    said.attention.push({ kind: 'channel_down', level: 'critical', subject: 'openai', values });
    await route.fulfill({ response: answer, json: said });
  });
  await page.goto(`${gateway.console}/`);
  await page.locator('input[type=password]').fill(gateway.token);
  await page.locator('form button').click();
  for (const [subject, path] of [['laptop', 'keys/4711'], ['alice', 'users?q=alice'], ['provider', 'channels']]) {
    const item = page.getByRole('listitem').filter({ hasText: subject });
    await item.getByText('今日已用 $4.50，共 $5.00（90%）').waitFor();
    assert.equal(await item.getByRole('link').getAttribute('href'), `/admin/ui/${path}`);
  }
  assert.equal(/spent usd|cooling s/.test(await page.locator('main').textContent()), false);
  await picture(page, 'attention-chinese');
  await page.context().close();
});

test('a table and a chart of usage agree with what the gateway counted', async () => {
  const page = await visit(chrome);
  await signIn(page, gateway);
  for (const by of ['day', 'key', 'model', 'channel']) {
    await page.goto(`${gateway.console}/admin/ui/usage?by=${by}&range=7d`);
    await page.getByRole('group', { name: 'Chart of' }).getByRole('button', { name: 'Requests' }).click();
    const total = await page.getByTestId('total').locator('[data-column=requests]').getAttribute('data-value');
    assert.equal(await page.getByTestId('chart').getAttribute('data-total'), total, by);
    assert.ok(Number(total) >= 5);
  }
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download CSV' }).click()]);
  assert.match(download.suggestedFilename(), /^weir-usage-by-channel/);
  await page.context().close();
});

test('a price rate that somebody else has changed meanwhile is not overwritten unseen', async () => {
  await gateway.api('POST', 'users', { name: 'rated', price_rate: '1.5' });
  const { key } = await gateway.api('POST', 'keys', { name: 'rated-key', user: 'rated' });
  await (await gateway.chat(key)).text();
  const page = await visit(chrome);
  await signIn(page, gateway);
  const choice = page.getByLabel('Choose rated', { exact: true });
  // The counters follow in a moment.
  await page.goto(`${gateway.console}/admin/ui/usage?by=user&range=7d`);
  for (let i = 0; i < 20 && !(await choice.isVisible()); i += 1) {
    await page.waitForTimeout(250);
    await page.reload();
    await page.getByTestId('total').waitFor();
  }
  await choice.check();
  await page.getByRole('button', { name: 'Change rates' }).click();
  await page.getByText('×1.5').waitFor();
  await gateway.api('PATCH', 'users/rated', { price_rate: '2' });
  await page.getByRole('textbox', { name: 'Price rate' }).fill('3');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('alert').getByText('Somebody else changed this user').waitFor();
  await page.getByText('×2').waitFor();
  assert.equal((await gateway.api('GET', 'users/rated')).price_rate, '2');
  await picture(page, 'rates-changed');
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert.equal((await gateway.api('GET', 'users/rated')).price_rate, '3');
  await page.context().close();
});

test('a draft of prices is not left unasked', async () => {
  const page = await visit(chrome);
  await signIn(page, gateway);
  await page.getByRole('link', { name: 'Prices', exact: true }).click();
  await page.getByRole('button', { name: 'Add a price' }).click();
  await page.getByLabel('Model').fill('draft-*');
  await page.getByLabel('Input', { exact: true }).fill('1');
  await page.getByLabel('Output', { exact: true }).fill('2');
  await page.getByRole('button', { name: 'Save' }).click();
  const draft = page.getByText('Changed, not yet in force');
  await draft.waitFor();

  let [answer, asked] = [false, 0];
  page.on('dialog', async (dialog) => {
    asked += 1;
    await (answer ? dialog.accept() : dialog.dismiss());
  });
  const back = async () => {
    await page.evaluate(() => history.back());
    await page.waitForTimeout(300);
  };
  await back();
  await page.getByRole('link', { name: 'Keys', exact: true }).click();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.reload({ timeout: 1000 }).catch(() => {});
  assert.equal(asked, 4);
  await back();
  assert.equal(asked, 5, 'it is asked each time');
  await draft.waitFor();
  assert.match(page.url(), /prices$/);

  answer = true;
  await back();
  await page.getByRole('heading', { name: 'Overview', level: 1 }).waitFor();
  await page.evaluate(() => history.forward());
  await page.getByText('gpt-4o-mini*').first().waitFor();
  assert.equal(await page.getByText('draft-*').count(), 0);
  assert.deepEqual([await draft.count(), asked], [0, 6], 'what was left is gone, and nobody asks for it');
  await page.context().close();
});

test('a user whose first key is refused is told who makes it', async () => {
  await gateway.api('POST', 'users', { name: 'first', password: 'a long enough one' });
  const page = await visit(chrome, { locale: 'en-US' });
  await signInUser(page, gateway, 'first', 'a long enough one');
  await page.getByLabel('Language').selectOption('zh-Hant');
  const answer = { status: 409, json: { error: { code: 'not_granted', message: 'no key to go by' } } };
  await page.route('**/api/keys', (route) => (route.request().method() === 'POST' ? route.fulfill(answer) : route.continue()));
  await page.goto(`${gateway.console}/admin/ui/my/keys?new=1`);
  await page.getByRole('dialog').getByRole('textbox').first().fill('mine');
  await page.getByRole('dialog').locator('button.primary').click();
  await page.getByRole('alert').getByText('第一把金鑰由管理員建立').waitFor();
  await picture(page, 'my-first-key-refused');
  await page.context().close();
});

test('the sums of a user are asked for each minute, and not while nobody looks', async () => {
  await gateway.api('POST', 'users', { name: 'looker', password: 'a long enough one' });
  const page = await visit(chrome);
  await page.clock.install();
  await signInUser(page, gateway, 'looker', 'a long enough one');
  let asked = 0;
  page.on('request', (request) => (asked += Number(request.url().endsWith('/api/usage/summary'))));
  await page.clock.runFor(59_000);
  assert.equal(asked, 0);
  await page.clock.runFor(2_000);
  assert.equal(asked, 1);
  await hide(page, true);
  await page.clock.runFor(300_000);
  assert.equal(asked, 1);
  const again = page.waitForRequest((request) => request.url().endsWith('/api/usage/summary'));
  await hide(page, false);
  await again;
  await page.context().close();
});

test('a user sees neither pages of administrators nor rates', async () => {
  await gateway.api('POST', 'users', { name: 'ursula', password: 'a long enough one', price_rate: '1.375' });
  const page = await visit(chrome);
  const said = [];
  page.on('response', async (response) => said.push(await response.text().catch(() => '')));
  await signInUser(page, gateway, 'ursula', 'a long enough one');
  assert.deepEqual(await page.getByRole('navigation', { name: 'Pages' }).getByRole('link').allTextContents(), ['My usage', 'My keys', 'Connect']);
  assert.deepEqual(await serious(page), []);
  await page.goto(`${gateway.console}/admin/ui/my/keys`);
  await page.getByText('An administrator makes the first key.').waitFor();
  assert.deepEqual(await serious(page), []);
  await picture(page, 'my-keys-none');
  assert.equal(await page.getByRole('button', { name: 'New key' }).count(), 0);
  await gateway.api('POST', 'keys', { name: 'granted', user: 'ursula' });
  await page.reload();
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByLabel('Name').fill('hers');
  await page.getByRole('button', { name: 'Create' }).click();
  const secret = await page.getByTestId('secret').inputValue();
  assert.equal((await gateway.chat(secret)).status, 200);
  await page.goto(`${gateway.console}/admin/ui/users`);
  await page.getByText('This is for administrators.').waitFor();
  assert.equal(said.some((text) => text.includes('1.375')), false);
  await picture(page, 'user-forbidden');
  await page.context().close();
});

for (const [language, heading] of [['en', 'Overview'], ['zh-Hans', '概览'], ['zh-Hant', '總覽']]) {
  test(`${language} is spoken, and kept`, async () => {
    const page = await visit(chrome);
    await signIn(page, gateway);
    await page.getByLabel('Language').selectOption(language);
    await page.getByRole('heading', { name: heading, level: 1 }).waitFor();
    await page.reload();
    await page.getByRole('heading', { name: heading, level: 1 }).waitFor();
    assert.equal(await page.locator('html').getAttribute('lang'), language);
    await page.context().close();
  });
}

for (const [look, options] of [
  ['light', { colorScheme: 'light' }],
  ['dark', { colorScheme: 'dark' }],
  ['phone', { colorScheme: 'light', viewport: { width: 390, height: 844 } }],
  ['chinese', { colorScheme: 'light', locale: 'zh-CN' }],
]) {
  test(`axe finds nothing serious on any page: ${look}`, async () => {
    const page = await visit(chrome, options);
    await page.goto(`${gateway.console}/`);
    await page.locator('input[type=password]').fill(gateway.token);
    await page.locator('form button').click();
    await page.locator('header').waitFor();
    const found = [];
    for (const name of PAGES) {
      const path = { Overview: '', Configuration: 'config' }[name] ?? name.toLowerCase();
      await page.goto(`${gateway.console}/admin/ui/${path}`);
      await page.locator('main h1').waitFor();
      await page.waitForTimeout(600);
      for (const wrong of await serious(page)) found.push(`${name}: ${wrong}`);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > document.documentElement.clientWidth);
      if (wide) found.push(`${name}: wider than the window`);
      await picture(page, `${name.toLowerCase()}-${look}`);
    }
    assert.deepEqual(found, []);
    assert.deepEqual(page.wrong, []);
    await page.context().close();
  });
}
