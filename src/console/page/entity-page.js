/** One entity: its sequences in a row, applied, held, missing and dead-lettered, and what can be done. */
import { beginChange } from './actions.js';
import { html, ChangeButton, Fact, Foreign, Nothing, Reason, State } from './parts.js';
import { hrefOf } from './route.js';
import { duration, number, range, time } from './text.js';

/** @param {{ state: import('./state.js').State }} props */
export function EntityPage({ state }) {
  const { entity, canUnlock } = state;
  if (entity === null) return html`<${Nothing}>Looking for the entity…<//>`;
  const { entity_type, entity_id, version, exists, dead_letters, unread } = entity;
  const which = { entity_type, entity_id };
  const can = canUnlock && dead_letters > 0;
  return html`
    <header class="title">
      <p class="crumbs"><a href="#/">Stream</a> › entity</p>
      <h1><span class="kind"><${Foreign} text=${entity_type} /></span> <${Foreign} text=${entity_id} /></h1>
      <div class="bar">
        <${ChangeButton} name="replay" can=${can} act=${() => beginChange('replay', 'Replay everything of the entity', which)}>Replay…<//>
        <${ChangeButton} name="discard" can=${can} tone="danger" act=${() => beginChange('discard', 'Discard all dead letters of the entity', which)}>Discard…<//>
      </div>
    </header>
    <section>
      <dl class="facts">
        <${Fact} name="version"><b>${number(version)}</b>${exists ? null : html` <span class="quiet">nothing of it was applied</span>`}<//>
        <${Fact} name="state"><${EntityStatus} entity=${entity} /><//>
        <${Fact} name="dead letters">${dead_letters === 0 ? 'none' : html`<a href=${hrefOf({ page: 'letters', search: unread === 0 ? which : { entity_id }, by: 'reason' })}>${number(dead_letters)}</a>`}<//>
        ${entity.holes === '' ? null : html`<${Fact} name="holes"><code>${entity.holes}</code><//>`}
      </dl>
    </section>
    <section>
      <h2>Timeline</h2>
      <${Timeline} runs=${entity.runs} version=${version} more=${entity.more} />
      ${entity.letters_as_of === null ? html`<p class="quiet">The dead letters were not read yet.</p>` : null}
    </section>
    <${Passed} entity=${entity} />
  `;
}

/** @param {{ entity: import('./answers.js').Entity }} props */
function EntityStatus({ entity: { parked, gap } }) {
  if (parked !== null) {
    const { reason, sequence, detail, at, replaying } = parked;
    return html`<${State} name=${replaying ? 'parked, being replayed' : 'parked'} tone="bad" /> since ${time(at)} UTC, at sequence ${number(sequence)}: <${Reason} reason=${reason} /> <span class="quiet"><${Foreign} text=${detail} /></span>`;
  }
  if (gap === null) return html`<${State} name="in order" tone="good" />`;
  const { missing_from, missing_to, held, ends_in_ms } = gap;
  return html`<${State} name="gap" tone="warn" /> waits for ${range(missing_from, missing_to)}, ${number(held)} held, ends in ${duration(ends_in_ms)}`;
}

/** @param {{ entity: import('./answers.js').Entity }} props */
function Passed({ entity: { passed } }) {
  if (passed.length === 0) return null;
  return html`
    <section>
      <h2>Dead letters outside of the line <small>passed by the version, or without a sequence that can be read: such a one may be what is missing</small></h2>
      <ul class="plain">${passed.map(({ fingerprint, message_id, sequence, reason }, index) => html`<li key=${`${fingerprint} ${index}`}><span class="n">${number(sequence)}</span> <${Reason} reason=${reason} /> <a data-row="" href=${hrefOf({ page: 'letter', id: fingerprint })}><${Foreign} text=${message_id} /></a></li>`)}</ul>
    </section>
  `;
}

/**
 * Draws an entity's sequences from the first to the last: a block for each run in the same state, as wide as the logarithm of its
 * length, with its sequences in it and its state in words, so that neither colour nor sight is needed.
 * @param {{ runs: readonly import('./answers.js').Run[], version: number, more: number }} props
 */
function Timeline({ runs, version, more }) {
  if (runs.length === 0) return html`<p class="nothing">Nothing of this entity was seen.</p>`;
  return html`
    <ol class="timeline">
      ${runs.map(
        (run) => html`
        <li key=${run.from} class=${`run ${run.state}${run.to === version ? ' at-version' : ''}`} style=${{ flexGrow: 1 + Math.log2(run.to - run.from + 1) }}>
          <${Block} run=${run} />
        </li>`,
      )}
      ${more > 0 ? html`<li class="run more">and ${number(more)} more runs</li>` : null}
    </ol>
    <p class="legend">${['applied', 'held', 'missing', 'dead-lettered', 'hole'].map((state) => html`<span key=${state} class=${`run ${state}`}><i></i>${state}</span>`)}</p>
  `;
}

/** @param {{ run: import('./answers.js').Run }} props */
function Block({ run }) {
  const { state, from, to, reason, fingerprint } = run;
  const inner = html`<b>${range(from, to)}</b><span>${state === 'dead-lettered' ? reason : state}</span>`;
  const title = `${range(from, to)}: ${state}${reason === undefined ? '' : `, ${reason}`}`;
  if (fingerprint === undefined) return html`<div class="block" title=${title}>${inner}</div>`;
  return html`<a class="block" data-row="" href=${hrefOf({ page: 'letter', id: fingerprint })} title=${title}>${inner}</a>`;
}
