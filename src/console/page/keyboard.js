/** Everything can be done with keys alone: those of the browser move between links and buttons, these are short ways. */
import { closeDialog, go, unlock } from './actions.js';
import { state, update } from './state.js';

export const keys = /** @type {const} */ ([
  ['1 2 3 4', 'Stream, dead letters, parked, audit'],
  ['/', 'Search the dead letters'],
  ['j k', 'Next and previous row; Enter opens it'],
  ['r', 'Replay what is shown'],
  ['d', 'Discard what is shown'],
  ['p', 'Headers and body of a message'],
  ['u', 'Unlock changes'],
  ['Esc', 'Close, or back to the dead letters'],
  ['?', 'These keys'],
]);

export function listenToKeys() {
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const target = /** @type {HTMLElement} */ (event.target);
    const isTyping = target.closest('input, textarea, select') !== null;
    if (state.dialog !== null) return;
    if (event.key === 'Escape') return leave(target, isTyping);
    if (!isTyping && press(event.key)) event.preventDefault();
  });
}

/** @param {HTMLElement} target @param {boolean} isTyping */
function leave(target, isTyping) {
  if (isTyping) target.blur();
  else if (state.dialog !== null) closeDialog();
  else if (state.route.page === 'letter' || state.route.page === 'entity') history.back();
}

/** @param {string} key @returns {boolean} whether it means something */
function press(key) {
  switch (key) {
    case '1':
      return went({ page: 'stream' });
    case '2':
      return went({ page: 'letters', search: {}, by: 'reason' });
    case '3':
      return went({ page: 'parked' });
    case '4':
      return went({ page: 'audit' });
    case '/':
      return search();
    case 'j':
      return moved(1);
    case 'k':
      return moved(-1);
    case 'r':
      return clicked('replay');
    case 'd':
      return clicked('discard');
    case 'p':
      return clicked('payload');
    case 'u':
      if (state.canUnlock) unlock();
      return true;
    case '?':
      update({ dialog: { kind: 'keys' } });
      return true;
    default:
      return false;
  }
}

/** @param {import('./route.js').Route} route */
function went(route) {
  go(route);
  return true;
}

function search() {
  if (state.route.page !== 'letters') go({ page: 'letters', search: {}, by: 'reason' });
  // The page with the field may have to be drawn first.
  setTimeout(() => /** @type {HTMLElement | null} */ (document.querySelector('input[type=search]'))?.focus());
  return true;
}

/** @param {1 | -1} step */
function moved(step) {
  const rows = [...document.querySelectorAll('[data-row]')];
  const at = rows.indexOf(/** @type {Element} */ (document.activeElement));
  const next = at === -1 ? (step === 1 ? 0 : rows.length - 1) : Math.min(rows.length - 1, Math.max(0, at + step));
  /** @type {HTMLElement | undefined} */ (rows[next])?.focus();
  return rows.length > 0;
}

/** @param {string} name of the button's `data-key` */
function clicked(name) {
  const button = /** @type {HTMLButtonElement | null} */ (document.querySelector(`button[data-key=${name}]`));
  button?.click();
  return button !== null;
}
