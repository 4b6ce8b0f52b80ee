/** The page's beginning: what is known is drawn, the address says what, and the server is asked what is new. */
import { Frame } from './frame.js';
import { html } from './parts.js';
import { listenToKeys } from './keyboard.js';
import { forget, refresh, startLive } from './live.js';
import { parseRoute } from './route.js';
import { onChange, state, update } from './state.js';
import { render } from './vendor/preact.js';

const root = /** @type {HTMLElement} */ (document.getElementById('console'));

function draw() {
  document.title = `${state.overview?.stream ?? 'Inorder'} · ${state.route.page === 'letter' ? 'message' : state.route.page}`;
  render(html`<${Frame} state=${state} />`, root);
}

addEventListener('hashchange', () => {
  update({ route: parseRoute(location.hash) });
  forget();
  refresh();
});

root.replaceChildren();
onChange(draw);
draw();
listenToKeys();
startLive();
