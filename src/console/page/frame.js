/** What stands around every page: the name of the stream, the ways to the pages, what is wrong, and who may change things. */
import { lock, unlock } from './actions.js';
import { AuditPage } from './audit-page.js';
import { Dialogs } from './dialogs.js';
import { EntityPage } from './entity-page.js';
import { LetterPage } from './letter-page.js';
import { LettersPage } from './letters-page.js';
import { ParkedPage } from './parked-page.js';
import { html, Nothing } from './parts.js';
import { StreamPage } from './stream-page.js';
import { healthOf, number } from './text.js';
import { hasToken } from './server.js';
import { update } from './state.js';

/** @typedef {import('./state.js').State} State */

/** @param {{ state: State }} props */
export function Frame({ state }) {
  return html`
    <a class="skip" href="#main" onClick=${toMain}>To the content</a>
    <${Header} state=${state} />
    <main id="main" tabindex="-1">
      <${Alerts} state=${state} />
      <${Page} state=${state} />
    </main>
    <${Dialogs} dialog=${state.dialog} />
  `;
}

/** @param {Event} event the address stays the route's */
function toMain(event) {
  event.preventDefault();
  document.getElementById('main')?.focus();
}

/** @param {{ state: State }} props */
function Header({ state }) {
  const { overview, route, admin, user, canUnlock } = state;
  const [tone, health] = healthOf(state);
  const ready = overview?.dead_letters.ready ?? null;
  const pages = /** @type {const} */ ([
    ['#/', 'Stream', ['stream', 'entity'], null],
    ['#/letters', 'Dead letters', ['letters', 'letter'], ready],
    ['#/parked', 'Parked', ['parked'], null],
    ['#/audit', 'Audit', ['audit'], null],
  ]);
  return html`
    <header class="top">
      <p class="brand"><img src="console/icon.svg" alt="" width="20" height="20" /> <b>${overview?.stream ?? 'Inorder'}</b> <span class=${`live ${tone}`} role="status">${health}</span></p>
      <nav aria-label="Pages">${pages.map(([href, name, of, count]) => html`<a key=${href} href=${href} aria-current=${/** @type {readonly string[]} */ (of).includes(route.page) ? 'page' : undefined}>${name}${count === null || count === 0 ? null : html` <span class="count">${number(count)}</span>`}</a>`)}</nav>
      <p class="access">
        <button type="button" class="plain" aria-label="Keys" title="Keys" onClick=${() => update({ dialog: { kind: 'keys' } })}>?</button>
        ${user === null ? null : html`<span class="quiet">${user}${admin ? '' : ', viewer'}</span>`}
        ${canUnlock ? html`<${LockButton} admin=${admin} />` : html`<span class="quiet" title="Set ADMIN_TOKEN to change things here">read only</span>`}
      </p>
    </header>
  `;
}

/** Whom a proxy names has nothing to lock. @param {{ admin: boolean }} props */
function LockButton({ admin }) {
  if (admin && !hasToken()) return null;
  return html`<button type="button" onClick=${admin ? lock : () => unlock()}>${admin ? 'Lock' : 'Unlock'}</button>`;
}

/** @param {{ state: State }} props */
function Alerts({ state: { silence, overview, locked } }) {
  const problems = silence === null ? (overview?.problems ?? []) : [`${silence}; what is shown is from before, and it is asked again`];
  if (locked) return null;
  return problems.map((problem) => html`<p class="note bad" role="alert" key=${problem}>${problem}</p>`);
}

/** @param {{ state: State }} props */
function Page({ state }) {
  const { overview, route } = state;
  if (state.locked)
    return html`<${Nothing}>This console can be reached from other machines, so it shows nothing without a token. <button type="button" class="primary" onClick=${() => unlock()}>Unlock</button><//>`;
  if (overview === null) return html`<${Nothing}>Asking the server…<//>`;
  switch (route.page) {
    case 'letters':
      return html`<${LettersPage} state=${state} />`;
    case 'letter':
      return html`<${LetterPage} state=${state} />`;
    case 'entity':
      return html`<${EntityPage} state=${state} />`;
    case 'parked':
      return html`<${ParkedPage} state=${state} />`;
    case 'audit':
      return html`<${AuditPage} state=${state} />`;
    default:
      return html`<${StreamPage} overview=${overview} />`;
  }
}
