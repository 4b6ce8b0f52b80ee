/** Dialogs: the browser keeps the focus in them and closes them with Escape. */
import { closeDialog, giveToken, isUnderWay, stopChange } from './actions.js';
import { ChangeDialog } from './change-dialog.js';
import { html } from './parts.js';
import { keys } from './keyboard.js';
import { state } from './state.js';

/** @param {{ dialog: import('./state.js').Dialog | null }} props */
export function Dialogs({ dialog }) {
  if (dialog === null) return null;
  return html`
    <dialog ref=${open} onClose=${closeDialog} onCancel=${leave} aria-labelledby="dialog-title" key=${dialog.kind}>
      ${dialog.kind === 'unlock' ? html`<${Unlock} error=${dialog.error} />` : dialog.kind === 'keys' ? html`<${Keys} />` : html`<${ChangeDialog} dialog=${dialog} />`}
    </dialog>
  `;
}

/** @param {HTMLDialogElement | null} element */
function open(element) {
  if (element !== null && !element.open) element.showModal();
}

/** Escape stops what is under way and leaves it to be read what was done. @param {Event} event */
function leave(event) {
  const { dialog } = state;
  if (dialog?.kind !== 'change' || dialog.change === null || !isUnderWay(dialog.change)) return;
  event.preventDefault();
  stopChange();
}

/** @param {{ error: string | null }} props */
function Unlock({ error }) {
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const input = /** @type {HTMLFormElement} */ (event.target).elements.namedItem('token');
    void giveToken(/** @type {HTMLInputElement} */ (input).value);
  };
  return html`
    <form onSubmit=${submit}>
      <h2 id="dialog-title">Unlock</h2>
      <p>Changes, headers and bodies need the <code>ADMIN_TOKEN</code>, or your own token. It is kept until this tab is closed.</p>
      <input type="text" name="username" value="console" autocomplete="username" readonly hidden />
      <label>Token <input name="token" type="password" required autocomplete="current-password" autofocus aria-describedby="token-error" /></label>
      <p id="token-error" class="error" role="alert">${error}</p>
      <div class="bar"><button type="button" onClick=${closeDialog}>Cancel</button><button type="submit" class="primary">Unlock</button></div>
    </form>
  `;
}

function Keys() {
  return html`
    <h2 id="dialog-title">Keys</h2>
    <dl class="keys">${keys.map(([key, meaning]) => html`<div key=${key}><dt>${key.split(' ').map((one) => html`<kbd key=${one}>${one}</kbd>`)}</dt><dd>${meaning}</dd></div>`)}</dl>
    <div class="bar"><button type="button" class="primary" autofocus onClick=${closeDialog}>Close</button></div>
  `;
}
