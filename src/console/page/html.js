/** Templates that become elements: what stands in `${…}` becomes text or an attribute, never markup. */
import htm from './vendor/htm.js';
import { h } from './vendor/preact.js';

/** @typedef {import('./vendor/preact.js').VNode} VNode */

/** @type {(strings: TemplateStringsArray, ...values: unknown[]) => any} */
export const html = htm.bind(/** @type {any} */ (h));
