/** The stream at a glance: its shards with who is active, and the gaps that are open now. */
import { rates } from './live.js';
import { html, EntityLink, Figure, Nothing, Share, State } from './parts.js';
import { duration, number, range, rate, visible } from './text.js';

/** @typedef {import('./answers.js').Overview} Overview */

/** @param {{ overview: Overview }} props */
export function StreamPage({ overview }) {
  const { shards, gaps, dead_letters, unrouted } = overview;
  /** @param {(shard: import('./answers.js').Shard) => number | null} pick */
  const sum = (pick) =>
    shards.reduce(
      (/** @type {number | null} */ total, shard) => (pick(shard) === null ? total : (total ?? 0) + /** @type {number} */ (pick(shard))),
      null,
    );
  const ready = sum(({ ready }) => ready);
  return html`
    <h1 class="unseen">Stream</h1>
    <dl class="figures">
      <${Figure} label="events/s" value=${rate(rates.total(shards))} title="Events that ended per second: applied, duplicate, skipped or dead-lettered" />
      <${Figure} label="ready" value=${number(ready)} title="Messages that wait in the shard queues" />
      <${Figure} label="held" value=${number(sum(({ held }) => held))} title="Events that wait for a predecessor" />
      <${Figure} label="gaps" value=${number(gaps.total)} tone=${(gaps.total ?? 0) > 0 ? 'warn' : ''} />
      <${Figure} label="dead letters" value=${number(dead_letters.ready)} tone=${(dead_letters.ready ?? 0) > 0 ? 'bad' : ''} href="#/letters" />
      <${Figure} label="unrouted" value=${number(unrouted)} tone=${(unrouted ?? 0) > 0 ? 'bad' : ''} title="Messages that the exchange had no queue for" />
    </dl>
    <${Shards} shards=${shards} />
    <${Gaps} gaps=${gaps} />
    <${Workers} workers=${overview.workers} />
  `;
}

/** @param {{ shards: Overview['shards'] }} props */
function Shards({ shards }) {
  return html`
    <section>
      <h2>Shards</h2>
      <table class="cards shards">
        <thead><tr><th class="n">shard</th><th>state</th><th>active</th><th class="n">ready</th><th class="n">held</th><th class="n">gaps</th><th class="n">events/s</th><th class="n">applied</th><th class="n">duplicate</th><th class="n">dead-lettered</th></tr></thead>
        <tbody>${shards.map((shard) => html`<${ShardRow} key=${shard.shard} shard=${shard} />`)}</tbody>
      </table>
    </section>
  `;
}

/** @type {Record<string, string>} */
const tones = {
  consuming: 'good',
  paused: 'warn',
  draining: 'warn',
  closed: 'bad',
  halted: 'bad',
  'no queue': 'bad',
  'no consumer': 'bad',
  standby: 'quiet',
  elsewhere: 'quiet',
};

/** @param {{ shard: import('./answers.js').Shard }} props */
function ShardRow({ shard }) {
  const { ready, held, gaps, totals, worker, consumer } = shard;
  const name = stateOf(shard);
  return html`
    <tr>
      <td class="n" data-label="shard"><b title=${shard.queue}>${shard.shard}</b></td>
      <td data-label="state"><${State} name=${name} tone=${tones[name] ?? 'quiet'} /></td>
      <td data-label="active" class="who" title=${consumer === null ? undefined : `the broker names ${consumer}`}>${worker ?? consumer ?? '–'}</td>
      <td class=${`n ${(ready ?? 0) > 0 ? '' : 'zero'}`} data-label="ready">${number(ready)}</td>
      <td class=${`n ${(held ?? 0) > 0 ? 'warn' : 'zero'}`} data-label="held">${number(held)}</td>
      <td class=${`n ${(gaps ?? 0) > 0 ? 'warn' : 'zero'}`} data-label="gaps">${number(gaps)}</td>
      <td class="n" data-label="events/s">${rate(rates.of(shard.shard))}</td>
      <td class="n" data-label="applied">${number(totals?.applied)}</td>
      <td class=${`n ${(totals?.duplicate ?? 0) > 0 ? '' : 'zero'}`} data-label="duplicate">${number(totals?.duplicate)}</td>
      <td class=${`n ${(totals?.dead_lettered ?? 0) > 0 ? 'bad' : 'zero'}`} data-label="dead-lettered">${number(totals?.dead_lettered)}</td>
    </tr>
  `;
}

/** What the worker says, or what the broker lets one conclude. @param {import('./answers.js').Shard} shard */
function stateOf({ state, ready, consumers }) {
  if (state !== 'unknown' && state !== 'standby') return state;
  if (consumers === null) return ready === null ? 'unknown' : 'no queue';
  if (consumers === 0) return 'no consumer';
  return state === 'standby' ? 'standby' : 'elsewhere';
}

/** @param {{ gaps: Overview['gaps'] }} props */
function Gaps({ gaps }) {
  return html`
    <section>
      <h2>Open gaps <small>${gaps.rows.length < (gaps.total ?? 0) ? `the ${number(gaps.rows.length)} that end soonest of ${number(gaps.total)}` : ''}</small></h2>
      ${
        gaps.rows.length === 0
          ? html`<${Nothing}>${gaps.total === null ? 'Not known: no worker answers that could tell.' : 'No event waits for a predecessor.'}<//>`
          : html`<table class="cards gaps">
            <thead><tr><th>entity</th><th class="n">version</th><th class="n">missing</th><th class="n">held</th><th class="n">shard</th><th>ends in</th></tr></thead>
            <tbody>${gaps.rows.map((gap) => html`<${GapRow} key=${`${gap.entity_type} ${gap.entity_id}`} gap=${gap} />`)}</tbody>
          </table>`
      }
    </section>
  `;
}

/** @param {{ gap: Overview['gaps']['rows'][number] }} props */
function GapRow({ gap }) {
  const { version, missing_from, missing_to, held, shard, waiting_ms, ends_in_ms } = gap;
  return html`
    <tr>
      <td data-label="entity"><${EntityLink} type=${gap.entity_type} id=${gap.entity_id} row=${true} /></td>
      <td class="n" data-label="version">${number(version)}</td>
      <td class="n bad" data-label="missing">${range(missing_from, missing_to)}</td>
      <td class="n" data-label="held">${number(held)}</td>
      <td class="n" data-label="shard">${shard}</td>
      <td data-label="ends in" class="countdown">
        <${Share} part=${ends_in_ms / Math.max(1, waiting_ms + ends_in_ms)} tone="warn" /> ${duration(ends_in_ms)}
      </td>
    </tr>
  `;
}

/** Only where one of them has something to say that the shards do not. @param {{ workers: Overview['workers'] }} props */
function Workers({ workers }) {
  if (workers.length === 0)
    return html`<p class="note">No worker is asked here, so what is held and open is not known: start with <code>--workers http://host:9464</code>.</p>`;
  const troubled = workers.filter(({ state, not_ready }) => state !== 'running' || not_ready.length > 0);
  return troubled.map(
    ({ name, state, not_ready }) =>
      html`<p class="note bad" key=${name}>${visible(name)}: ${state ?? 'no worker of this stream answers'}${not_ready.map((reason) => `; ${visible(reason)}`)}</p>`,
  );
}
