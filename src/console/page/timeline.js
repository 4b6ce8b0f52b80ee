/**
 * Draws an entity's sequences from the first to the last: a block for each run in the same state, as wide as the logarithm of its
 * length, with its sequences in it and its state in words, so that neither colour nor sight is needed.
 */
import { html } from './html.js';
import { hrefOf } from './route.js';
import { number, range } from './text.js';

/** @typedef {import('./answers.js').Run} Run */

/** @param {{ runs: readonly Run[], version: number, more: number }} props */
export function Timeline({ runs, version, more }) {
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

/** @param {{ run: Run }} props */
function Block({ run }) {
  const { state, from, to, reason, fingerprint } = run;
  const inner = html`<b>${range(from, to)}</b><span>${state === 'dead-lettered' ? reason : state}</span>`;
  const title = `${range(from, to)}: ${state}${reason === undefined ? '' : `, ${reason}`}`;
  if (fingerprint === undefined) return html`<div class="block" title=${title}>${inner}</div>`;
  return html`<a class="block" data-row="" href=${hrefOf({ page: 'letter', id: fingerprint })} title=${title}>${inner}</a>`;
}
