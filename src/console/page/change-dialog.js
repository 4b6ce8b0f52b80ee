/** The dialog of a change: its plan with what is replayable or blocked and why, the question, the progress, the outcome. */
import { closeDialog, confirmChange, isOver, planChange, stopChange } from './actions.js';
import { html, EntityLink, Foreign, Reason } from './parts.js';
import { counted, number } from './text.js';

/** @typedef {import('./answers.js').Change} Change */
/** @typedef {Extract<import('./state.js').Dialog, { kind: 'change' }>} Dialog */

/** @param {{ dialog: Dialog }} props */
export function ChangeDialog({ dialog }) {
  const { action, title, change, error } = dialog;
  return html`
    <h2 id="dialog-title">${title}</h2>
    ${error === null ? null : html`<p class="error" role="alert">${error}</p>`}
    ${change === null ? (action === 'discard' && error === null ? html`<${DiscardForm} />` : null) : html`<${Progress} change=${change} />`}
    ${change !== null && !isOver(change) ? html`<${Plan} change=${change} />` : null}
    ${change !== null && isOver(change) ? html`<${Outcome} change=${change} />` : null}
    ${change === null && action === 'discard' && error === null ? null : html`<${Buttons} change=${change} />`}
  `;
}

function DiscardForm() {
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const data = new FormData(/** @type {HTMLFormElement} */ (event.target));
    void planChange({ why: String(data.get('why')), skip_sequence: data.has('skip') });
  };
  return html`
    <form onSubmit=${submit}>
      <p>A discarded message is gone for good. Who did it and why is kept in the audit trail.</p>
      <label>Why <input name="why" required maxlength="1000" autofocus autocomplete="off" /></label>
      <label class="check"><input name="skip" type="checkbox" /> <span>Skip its sequence: leave a hole, so that what is behind it can go on</span></label>
      <div class="bar"><button type="button" onClick=${closeDialog}>Cancel</button><button type="submit" class="primary">Show the plan</button></div>
    </form>
  `;
}

/** @param {{ change: Change }} props */
function Progress({ change: { state, read, done, total, action } }) {
  if (state === 'planning') return html`<p role="status">Reading the dead letters: ${number(read)} so far…</p>`;
  if (state === 'running')
    return html`<p role="status">${action === 'replay' ? 'Replaying' : 'Discarding'}: ${number(done)} of ${number(total)} <progress max=${total ?? 1} value=${done}></progress></p>`;
  if (state === 'settling') return html`<p role="status">Waiting until the workers have processed them… <progress></progress></p>`;
  return null;
}

/** @param {{ change: Change }} props */
function Plan({ change: { plan, action, skip_sequence } }) {
  if (plan === null) return null;
  const { letters, blocked, unordered, entity_count, entities, not_replayable_count = 0, not_replayable = [] } = plan;
  if (letters + blocked + not_replayable_count === 0) return html`<p>No dead letter matches.</p>`;
  return html`
    <p class="sum"><b>${number(letters)}</b> ${action === 'replay' ? 'replayable' : 'to discard for good'}${blocked > 0 ? html`, <b>${number(blocked)}</b> blocked until what ${blocked === 1 ? 'it waits' : 'they wait'} for has arrived` : null}${skip_sequence ? ', and their sequences are skipped' : ''}.</p>
    ${unordered > 0 ? html`<p class="quiet">${number(unordered)} of them ${unordered === 1 ? 'has' : 'have'} no entity or no sequence that can be read${action === 'replay' ? ', and will be decided again' : ''}.</p>` : null}
    ${
      not_replayable_count === 0
        ? null
        : html`<p>${counted(not_replayable_count, 'message')} not replayable:</p>
    <ul class="plain plan" tabindex="0">${not_replayable.map(({ entity_id, sequence, reason, why }, index) => html`<li key=${index}>${entity_id === null ? null : html`<${Foreign} text=${entity_id} /> `}${sequence === null ? null : number(sequence)} <${Reason} reason=${reason} /> <span class="quiet">${why}</span></li>`)}</ul>`
    }
    ${
      entities.length === 0
        ? null
        : html`<div class="plan" tabindex="0">
      <table class=${`cards ${action}`}>
        <thead><tr><th>entity</th>${action === 'replay' ? html`<th class="n">version</th>` : null}<th>${action === 'replay' ? 'replayable' : 'to discard'}</th>${action === 'replay' ? html`<th>blocked</th>` : null}</tr></thead>
        <tbody>
          ${entities.map(
            (entity) => html`<tr key=${`${entity.entity_type} ${entity.entity_id}`}>
            <td data-label="entity" class="long"><span class="kind"><${Foreign} text=${entity.entity_type} /></span> <${Foreign} text=${entity.entity_id} /></td>
            ${action === 'replay' ? html`<td data-label="version" class="n">${number(entity.version)}</td>` : null}
            <td data-label=${action === 'replay' ? 'replayable' : 'to discard'}>${entity.sequences || (entity.letters === 0 ? html`<span class="quiet">nothing</span>` : counted(entity.letters, 'message'))}</td>
            ${action === 'replay' ? html`<td data-label="blocked">${entity.blocked === null ? html`<span class="quiet">nothing</span>` : html`${entity.blocked.sequences}: <span class="quiet">${entity.blocked.why}</span>`}</td>` : null}
          </tr>`,
          )}
        </tbody>
      </table>
      ${entity_count > entities.length ? html`<p class="quiet">and ${counted(entity_count - entities.length, 'more entity', 'more entities')}</p>` : null}
    </div>`
    }
  `;
}

/** @param {{ change: Change }} props */
function Outcome({ change: { state, error, outcome, done, action } }) {
  if (state === 'failed') return html`<p class="error" role="alert">${error}${done > 0 ? ` (${number(done)} had gone before)` : ''}</p>`;
  if (outcome === null) return html`<p role="status">Stopped. Nothing was changed.</p>`;
  if (action === 'discard') return html`<p role="status" class="sum"><b>${number(outcome.discarded)}</b> discarded.</p>`;
  const { replayed = 0, left = 0, recovered = 0, entity_count = 0, entities = [], again = 0, undecided = 0 } = outcome;
  return html`
    <p role="status" class="sum"><b>${number(replayed)}</b> replayed${left > 0 ? `, ${number(left)} not reached, or no longer in the queue` : ''}; ${number(recovered)} of ${counted(entity_count, 'entity', 'entities')} recovered.</p>
    ${again + undecided === 0 ? null : html`<p>Of those without a sequence ${number(again)} were dead-lettered again, and ${number(undecided)} are not processed yet.</p>`}
    ${entities.length === 0 ? null : html`<ul class="plain plan" tabindex="0">${entities.map((entity) => html`<li key=${`${entity.entity_type} ${entity.entity_id}`}><${EntityLink} type=${entity.entity_type} id=${entity.entity_id} /> at version ${number(entity.version)}: ${statusText(entity.status)}${entity.parked === null ? (entity.again === null ? null : html` <${Reason} reason=${entity.again} />`) : html` <${Reason} reason=${entity.parked.reason} />`}</li>`)}</ul>`}
  `;
}

/** @param {string} status */
function statusText(status) {
  if (status === 'parked-again') return 'parked again, for';
  if (status === 'dead-lettered-again') return 'dead-lettered again, for';
  if (status === 'undecided') return 'not all of it was processed yet: is a worker running?';
  return 'others of its dead letters are left';
}

/** @param {{ change: Change | null }} props */
function Buttons({ change }) {
  if (change === null || isOver(change)) {
    return html`<div class="bar" key="over"><button type="button" class="primary" ref=${focus} onClick=${closeDialog}>Close</button></div>`;
  }
  if (change.state !== 'planned')
    return html`<div class="bar" key="under-way"><button type="button" ref=${focus} onClick=${stopChange}>Stop</button></div>`;
  const letters = change.plan?.letters ?? 0;
  const isDiscard = change.action === 'discard';
  return html`
    <div class="bar" key="planned">
      <button type="button" ref=${letters === 0 || isDiscard ? focus : undefined} onClick=${closeDialog}>${letters === 0 ? 'Close' : 'Cancel'}</button>
      ${letters === 0 ? null : html`<button type="button" class=${isDiscard ? 'primary danger' : 'primary'} ref=${isDiscard ? undefined : focus} onClick=${confirmChange}>${isDiscard ? 'Discard' : 'Replay'} ${counted(letters, 'message')}</button>`}
    </div>
  `;
}

/** Focuses the button, so that the next key press answers the dialog. @param {HTMLElement | null} element */
function focus(element) {
  element?.focus();
}
