import { mount } from 'svelte';

import App from './App.svelte';
import { choosePlatform } from './platform';
import { Application } from './stores/application.svelte';
import './styles/tokens.css';
import './styles/base.css';
import { chooseView } from './view';

const platform = await choosePlatform(window);
const view = chooseView(window.location.search, platform.kind);
const root = document.documentElement;
root.classList.add(platform.kind, `view-${view}`);
// The system draws a window's shadow on a Mac only; elsewhere the page does.
if (navigator.userAgent.includes('Macintosh')) root.classList.add('mac');

const target = document.getElementById('app');
if (!target) throw new Error('index.html has no element `app`. This is a bug.');
mount(App, { target, props: { application: new Application(platform), view } });
