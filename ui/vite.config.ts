import { svelte } from '@sveltejs/vite-plugin-svelte';
import { loadEnv } from 'vite';
import { defineConfig } from 'vitest/config';

// Where `npm run dev` finds the API: the gateway of `make demo`, or `node dev/server.mjs`.
const gateway = loadEnv('', '.', 'WEIR_').WEIR_ADMIN ?? 'http://127.0.0.1:8515';

/** What most pages share is one file: a page of thirty small ones is shown later. A language is fetched by itself. */
const common = (id: string): string | undefined =>
  id.includes('/node_modules/svelte/') || (id.includes('/src/lib/') && !/i18n\/(en|zh-)/.test(id)) ? 'common' : undefined;

export default defineConfig({
  base: '/admin/ui/',
  plugins: [svelte()],
  build: {
    target: 'es2022',
    // The policy of the served page allows no `data:` and nothing inline.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    manifest: 'manifest.json',
    rollupOptions: { output: { manualChunks: common } },
  },
  server: { host: '127.0.0.1', proxy: { '/admin/api': gateway, '/api': gateway } },
  test: { include: ['tests/**/*.test.ts'] },
});
