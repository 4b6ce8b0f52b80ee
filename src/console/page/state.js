/** The state of the page in one object: `update` changes it and draws the page again. */
import { parseRoute } from './route.js';

/**
 * @typedef {import('./answers.js').Overview} Overview
 * @typedef {{ kind: 'unlock', error: string | null, then: (() => void) | null } | { kind: 'keys' }
 *   | { kind: 'change', action: 'replay' | 'discard', title: string, request: Record<string, unknown>,
 *       change: import('./answers.js').Change | null, error: string | null }} Dialog
 *
 * @typedef {object} State
 * @property {import('./route.js').Route} route
 * @property {Overview | null} overview
 * @property {boolean} admin changes are open: by a token, or by the proxy
 * @property {string | null} user who this is, where that is known
 * @property {boolean} canUnlock changes are open, or there is a token that opens them
 * @property {boolean} locked nothing is shown without a token
 * @property {string | null} silence why the server does not answer
 * @property {import('./answers.js').Letters | null} letters
 * @property {import('./answers.js').LetterDetail | null} letter
 * @property {boolean} wantsPayload headers and body of the letter are to be shown
 * @property {import('./answers.js').Entity | null} entity
 * @property {import('./answers.js').ParkedList | null} parked
 * @property {readonly import('./answers.js').AuditEntry[] | null} audit
 * @property {string | null} missing why what the route names cannot be shown
 * @property {Dialog | null} dialog
 * @property {number} nowMs
 */

/** @type {State} */
export const state = {
  route: parseRoute(location.hash),
  overview: null,
  admin: false,
  user: null,
  canUnlock: false,
  locked: false,
  silence: null,
  letters: null,
  letter: null,
  wantsPayload: false,
  entity: null,
  parked: null,
  audit: null,
  missing: null,
  dialog: null,
  nowMs: Date.now(),
};

/** @type {() => void} */
let draw = () => undefined;
let isDue = false;

/** @param {() => void} callback */
export function onChange(callback) {
  draw = callback;
}

/** Several changes in one go are drawn once. @param {Partial<State>} changes */
export function update(changes) {
  Object.assign(state, changes);
  if (isDue) return;
  isDue = true;
  queueMicrotask(() => {
    isDue = false;
    draw();
  });
}
