/** The entities of which something was dead-lettered, so that what comes after it follows there. */
import { html, EntityLink, Foreign, Nothing, Reason, State } from './parts.js';
import { ago, counted, number, time } from './text.js';

/** @param {{ state: import('./state.js').State }} props */
export function ParkedPage({ state: { parked, nowMs } }) {
  if (parked === null) return html`<${Nothing}>Reading all entities of the store…<//>`;
  return html`
    <h1 class="unseen">Parked entities</h1>
    <p class="reading"><b>${number(parked.total)}</b> of ${counted(parked.scanned, 'entity', 'entities')} ${parked.total === 1 ? 'is' : 'are'} parked${parked.total > parked.entities.length ? `; ${number(parked.entities.length)} of them are shown` : ''}.</p>
    ${
      parked.entities.length === 0
        ? html`<${Nothing}>Every entity can go on.<//>`
        : html`<table class="cards">
          <thead><tr><th>entity</th><th class="n">version</th><th class="n">at</th><th>reason</th><th>detail</th><th>since</th></tr></thead>
          <tbody>${parked.entities.map(
            ({ entity_type, entity_id, version, parked: { reason, sequence, detail, at, replaying } }) => html`
            <tr key=${`${entity_type} ${entity_id}`}>
              <td data-label="entity" class="long"><${EntityLink} type=${entity_type} id=${entity_id} row=${true} /></td>
              <td data-label="version" class="n">${number(version)}</td>
              <td data-label="at sequence" class="n">${number(sequence)}</td>
              <td data-label="reason"><${Reason} reason=${reason} />${replaying ? html` <${State} name="being replayed" tone="warn" />` : null}</td>
              <td data-label="detail" class="detail"><${Foreign} text=${detail} /></td>
              <td data-label="since" class="since" title=${`${time(at)} UTC`}>${ago(at, nowMs)}</td>
            </tr>`,
          )}</tbody>
        </table>`
    }
  `;
}
