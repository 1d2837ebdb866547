// The console before a gateway that has ten thousand keys and a million records: every page shows what it has at once.
// WEIR_RECORDS asks for another number of records, WEIR_BIN for another program than the one that tests are built with.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { configuration, history, record } from './seed.mjs';
import { browser, filled, picture, signIn, visit } from './support.mjs';

const KEYS = 10_000;
const RECORDS = Number(process.env.WEIR_RECORDS ?? 1_000_000);
/**
 * What a person takes for at once, in milliseconds. It is promised of the program as it is shipped (WEIR_BIN); the one that
 * tests are built with is not optimised, and needs some times longer for a text of two megabytes.
 */
const AT_ONCE = process.env.WEIR_BIN ? 300 : 600;
const LOADS = 5;
const ROUNDS = 4;

/** What a page has to show: the address, its heading, and what is in it. */
const PAGES = [
  ['', 'Overview', 'main tbody tr'],
  ['requests', 'Requests', 'main tbody tr'],
  ['requests?key=key-04711', 'Requests', 'main tbody tr'],
  ['requests?status=5xx', 'Requests', 'main tbody tr'],
  ['usage?by=key', 'Usage', 'main tbody tr'],
  ['usage?by=day&range=30d', 'Usage', 'main tbody tr'],
  ['keys', 'Keys', 'main tbody tr'],
  ['keys?q=user-042', 'Keys', 'main tbody tr'],
  ['channels', 'Channels', 'main tbody tr'],
  ['users', 'Users', 'main tbody tr'],
  ['prices', 'Prices', 'main h1'],
  ['config', 'Configuration', 'main dl'],
  ['connect', 'Connect', 'main pre'],
];

/** In the page itself: after how many milliseconds from the beginning of its loading it draws what it has to show. */
function watch(pages) {
  const at = location.pathname.replace('/admin/ui/', '') + location.search;
  const wanted = pages.find(([path]) => path === at);
  if (!wanted) return;
  const [, heading, content] = wanted;
  window.shown = new Promise((told) => {
    const look = () => {
      if (document.querySelector('h1')?.textContent !== heading || !document.querySelector(content)) return;
      observer.disconnect();
      requestAnimationFrame(() => told(performance.now()));
    };
    const observer = new MutationObserver(look);
    observer.observe(document, { childList: true, subtree: true, characterData: true });
  });
}

let gateway, chrome, page;
before(async () => {
  gateway = await filled((places) => configuration({ ...places, keys: KEYS }), (dataDir) => history(dataDir, RECORDS, KEYS));
  // The oldest record is found when the index has been made.
  await gateway.until('requests?limit=1', ({ rows }) => rows.length === 1, 60);
  const now = Date.now();
  const events = Array.from({ length: 2 * KEYS }, (_, n) => JSON.stringify(record(RECORDS + n, KEYS, now - ((n * 7919) % 86_000_000))));
  await gateway.api('events/import', { method: 'POST', body: `${events.join('\n')}\n` });
  await gateway.until('usage?by=key&top=1', ({ values }) => values === KEYS, 60);
  const { id } = record(0, KEYS, 0);
  await gateway.until(`requests/${id}`, (row) => row.id === id, 180);
  chrome = await browser();
  page = await visit(chrome);
  await page.addInitScript(watch, PAGES);
  await signIn(page, gateway);
});
after(async () => {
  await chrome?.close();
  await gateway?.stop();
});

/** Milliseconds until it is shown, of a load that finds the program in the browser's cache: the middle one of some. */
async function timeOf(path, heading, content) {
  const times = [];
  for (let load = 0; load < LOADS; load += 1) {
    await page.goto('about:blank');
    await page.goto(`${gateway.console}/admin/ui/${path}`, { waitUntil: 'commit' });
    times.push(await page.evaluate(() => window.shown));
    await page.getByRole('heading', { name: heading, level: 1 }).waitFor();
    await page.locator(content).first().waitFor();
  }
  return times.sort((a, b) => a - b)[Math.floor(LOADS / 2)];
}

for (const [path, heading, content] of PAGES) {
  test(`/${path} shows its content within ${AT_ONCE} ms of ${KEYS} keys and ${RECORDS} records`, async () => {
    const medians = [];
    // The first load fills the cache; and a machine that does something else for a while is given time to end that.
    await timeOf(path, heading, content);
    do medians.push(Math.round(await timeOf(path, heading, content)));
    while (medians.at(-1) > AT_ONCE && medians.length < ROUNDS);
    await picture(page, `full-${path.replace(/\W+/g, '-') || 'overview'}`);
    console.log(`# ${heading} (${path}): ${medians.join(', ')} ms`);
    assert.ok(medians.at(-1) <= AT_ONCE, `${medians.join(', ')} ms`);
    assert.deepEqual(page.wrong, []);
  });
}
