/** The user's actions: every change is planned and shown first. */
import { forget, refresh } from './live.js';
import { hrefOf } from './route.js';
import { ask, Refused, setToken, tell } from './server.js';
import { state, update } from './state.js';

const pollMs = 400;

/** @param {import('./route.js').Route} route */
export function go(route) {
  location.hash = hrefOf(route);
}

/** Narrows the search, or widens it where a value is empty. @param {import('./route.js').Search} changes */
export function searchFor(changes) {
  if (state.route.page !== 'letters') return;
  const search = { ...state.route.search, ...changes };
  for (const [field, value] of Object.entries(search)) if (value === '') delete search[/** @type {keyof typeof search} */ (field)];
  // Typing makes no history.
  history.replaceState(null, '', hrefOf({ ...state.route, search }));
  update({ route: { ...state.route, search } });
  refresh();
}

export function closeDialog() {
  const { dialog } = state;
  if (dialog?.kind === 'change') stopChange();
  update({ dialog: null });
}

/** Stops a change; its dialog then shows what was done. */
export function stopChange() {
  const change = state.dialog?.kind === 'change' ? state.dialog.change : null;
  if (change !== null && !isOver(change)) void tell(`changes/${change.id}/stop`).catch(() => undefined);
}

/** Whether the change is running. @param {import('./answers.js').Change} change */
export function isUnderWay({ state }) {
  return state === 'planning' || state === 'running' || state === 'settling';
}

/** @param {import('./answers.js').Change} change */
export function isOver({ state }) {
  return state === 'done' || state === 'failed' || state === 'stopped';
}

/** Asks for the token if it was not given yet, then calls `then`. @param {(() => void) | null} then */
export function unlock(then = null) {
  if (state.admin) then?.();
  else update({ dialog: { kind: 'unlock', error: null, then } });
}

export function lock() {
  setToken(null);
  update({ admin: false, user: null });
  forget();
  refresh();
}

/** @param {string} token */
export async function giveToken(token) {
  const { dialog } = state;
  if (dialog?.kind !== 'unlock') return;
  setToken(token);
  try {
    /** @type {import('./answers.js').Session} */
    const { admin, user } = await ask('session');
    if (!admin && (dialog.then !== null || !state.locked)) throw new Refused(403, 'that is the token of a viewer: this needs an operator');
    update({ admin, user, locked: false, dialog: null });
    refresh();
    dialog.then?.();
  } catch (error) {
    setToken(null);
    update({ dialog: { ...dialog, error: wordsOf(error) } });
  }
}

export function showPayload() {
  unlock(() => {
    update({ wantsPayload: true });
    refresh();
  });
}

export async function readAgain() {
  await tell('letters/read').catch(() => undefined);
  refresh();
}

/**
 * Opens the dialog of a change. A replay is planned at once; a discard first asks why.
 * @param {'replay' | 'discard'} action @param {string} title @param {Record<string, unknown>} request which letters, as the API takes it
 */
export function beginChange(action, title, request) {
  unlock(() => {
    update({ dialog: { kind: 'change', action, title, request, change: null, error: null } });
    if (action === 'replay') void planChange({});
  });
}

/** @param {Record<string, unknown>} more what the dialog has asked for */
export async function planChange(more) {
  const { dialog } = state;
  if (dialog?.kind !== 'change') return;
  await follow(() => tell('changes', { action: dialog.action, ...dialog.request, ...more }));
}

export async function confirmChange() {
  const { dialog } = state;
  if (dialog?.kind !== 'change' || dialog.change === null) return;
  const { id } = dialog.change;
  await follow(() => tell(`changes/${id}/confirm`));
  forget();
  refresh();
}

/** Shows the change until it has ended. @param {() => Promise<import('./answers.js').Change>} begin */
async function follow(begin) {
  try {
    let change = await begin();
    for (;;) {
      if (state.dialog?.kind !== 'change') return;
      update({ dialog: { ...state.dialog, change, error: null } });
      if (!isUnderWay(change)) return;
      await new Promise((resolve) => setTimeout(resolve, pollMs));
      change = await ask(`changes/${change.id}`);
    }
  } catch (error) {
    if (state.dialog?.kind === 'change') update({ dialog: { ...state.dialog, error: wordsOf(error) } });
  }
}

/** @param {unknown} error */
function wordsOf(error) {
  return error instanceof Refused ? error.message : 'something went wrong here: see the browser’s log';
}
