// After vite: what the browser loads first must stay small, and every text is packed once, here, so that the gateway
// packs nothing while it runs.
import { readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const DIST = new URL('../dist', import.meta.url).pathname;
/** Bytes of packed JavaScript that a page may need before anything is shown. */
const BUDGET = 90 * 1024;

const manifest = JSON.parse(await readFile(join(DIST, 'manifest.json'), 'utf8'));
await rm(join(DIST, 'manifest.json'));

/** A chunk and all that it imports before it runs; with `later`, what it fetches afterwards, too. */
function closure(name, later = false, found = new Set()) {
  if (!found.has(name)) {
    found.add(name);
    const { imports = [], dynamicImports = [] } = manifest[name];
    for (const next of later ? [...imports, ...dynamicImports] : imports) closure(next, later, found);
  }
  return found;
}

const packed = async (names) => {
  let sum = 0;
  for (const name of names) sum += gzipSync(await readFile(join(DIST, manifest[name].file)), { level: 9 }).length;
  return sum;
};

// What every page needs, and the heaviest of the pages, with its charts, and of the languages beside it.
const entry = closure('index.html');
const beside = async (prefix) => {
  const sizes = Object.keys(manifest).filter((name) => name.startsWith(prefix));
  const each = sizes.map(async (name) => [await packed([...closure(name, true)].filter((part) => ![...entry].includes(part) && !(part.startsWith('src/pages/') && part !== name) && !(part.startsWith('src/lib/i18n/') && part !== name) && part !== 'index.html')), name]);
  return (await Promise.all(each)).sort((a, b) => b[0] - a[0])[0] ?? [0, 'none'];
};
const [page, pageName] = await beside('src/pages/');
const [words, wordsName] = await beside('src/lib/i18n/');
const initial = (await packed(entry)) + page + words;
const kib = (bytes) => `${(bytes / 1024).toFixed(1)} KiB`;
console.log(`initial JavaScript: ${kib(initial)} packed, with ${pageName} (${kib(page)}) and ${wordsName} (${kib(words)})`);
if (initial > BUDGET) {
  console.error(`that is more than the ${kib(BUDGET)} that it may be`);
  process.exit(1);
}

for (const file of await readdir(DIST, { recursive: true })) {
  if (!/\.(js|css|html|svg)$/.test(file)) continue;
  const bytes = await readFile(join(DIST, file));
  const small = gzipSync(bytes, { level: 9 });
  if (small.length < bytes.length * 0.9) await writeFile(join(DIST, `${file}.gz`), small);
}
