/** What pages are made of: templates, and small pieces that several of them have. */
import { hrefOf } from './route.js';
import { visible } from './text.js';
import htm from './vendor/htm.js';
import { h } from './vendor/preact.js';

/**
 * Makes elements of a template: what stands in `${…}` becomes text or an attribute, never markup.
 * @type {(strings: TemplateStringsArray, ...values: unknown[]) => any}
 */
export const html = htm.bind(/** @type {any} */ (h));

/** Text from outside: as text, and with what cannot be seen written out. @param {{ text: string | null }} props */
export function Foreign({ text }) {
  return html`<bdi class="foreign">${text === null ? '–' : visible(text)}</bdi>`;
}

/** @param {{ type: string | null, id: string | null, row?: boolean }} props */
export function EntityLink({ type, id, row = false }) {
  if (type === null || id === null) return html`<span class="quiet">${id === null ? 'no entity' : html`<${Foreign} text=${id} />`}</span>`;
  return html`<a class="entity" href=${hrefOf({ page: 'entity', type, id })} data-row=${row ? '' : undefined}><span class="kind"><${Foreign} text=${type} /></span> <${Foreign} text=${id} /></a>`;
}

/** A state in a word, with a mark of its own so that colour is not needed. @param {{ name: string, tone: string }} props */
export function State({ name, tone }) {
  return html`<span class=${`state ${tone}`}>${name}</span>`;
}

/** @param {{ reason: string }} props */
export function Reason({ reason }) {
  return html`<code class="reason">${reason}</code>`;
}

/** A number with what it counts. @param {{ label: string, value: string, tone?: string, href?: string, title?: string }} props */
export function Figure({ label, value, tone = '', href, title }) {
  const inner = html`<dt>${label}</dt><dd>${value}</dd>`;
  return html`<div class=${`figure ${tone}`} title=${title}>${href === undefined ? inner : html`<a href=${href}>${inner}</a>`}</div>`;
}

/** How much of the whole, as a bar beside the number that says it. @param {{ part: number, tone: string }} props */
export function Share({ part, tone }) {
  return html`<span class=${`share ${tone}`} aria-hidden="true"><i style=${{ width: `${Math.round(100 * Math.min(1, Math.max(0, part)))}%` }}></i></span>`;
}

/** What stands where there is nothing to show. @param {{ children?: unknown }} props */
export function Nothing({ children }) {
  return html`<p class="nothing">${children}</p>`;
}

/** A fact of a list of facts. @param {{ name: string, children?: unknown }} props */
export function Fact({ name, children }) {
  return html`<div><dt>${name}</dt><dd>${children}</dd></div>`;
}

/**
 * A button for a change; it says why it is disabled.
 * @param {{ name: string, can: boolean, tone?: string, act: () => void, children?: unknown }} props
 */
export function ChangeButton({ name, can, tone = '', act, children }) {
  const title = can ? undefined : 'ADMIN_TOKEN is not set: the console only reads';
  return html`<button type="button" class=${tone} data-key=${name} disabled=${!can} title=${title} onClick=${act}>${children}</button>`;
}
