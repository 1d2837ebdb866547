import './app.css';
import { mount } from 'svelte';
import App from './App.svelte';
import { i18n } from './lib/i18n/index.svelte';
import { early } from './lib/pages';
import { router } from './lib/router.svelte';
import { session } from './lib/session.svelte';

router.start();
early(router.path);
await Promise.all([i18n.start(), session.look()]);
mount(App, { target: document.getElementById('app') as HTMLElement });
