/** Who changed data, what, when and why: the latest first. */
import { html, EntityLink, Foreign, Nothing } from './parts.js';
import { time } from './text.js';

/** @param {{ state: import('./state.js').State }} props */
export function AuditPage({ state: { audit } }) {
  if (audit === null) return html`<${Nothing}>Reading the audit trail…<//>`;
  if (audit.length === 0) return html`<${Nothing}>Nobody has changed anything.<//>`;
  return html`
    <h1 class="unseen">Audit</h1>
    <table class="cards">
      <thead><tr><th>when (UTC)</th><th>who</th><th>action</th><th>entity</th><th>what</th><th>why</th></tr></thead>
      <tbody>${audit.map(
        ({ at, who, action, entity_type, entity_id, what, reason }, index) => html`
        <tr key=${`${at} ${index}`}>
          <td data-label="when" class="since">${time(at)}</td>
          <td data-label="who" class="by"><${Foreign} text=${who} /></td>
          <td data-label="action">${action}</td>
          <td data-label="entity" class="long">${entity_id === null ? '–' : html`<${EntityLink} type=${entity_type} id=${entity_id} />`}</td>
          <td data-label="what" class="detail"><${Foreign} text=${what} /></td>
          <td data-label="why" class="detail"><${Foreign} text=${reason === '' ? null : reason} /></td>
        </tr>`,
      )}</tbody>
    </table>
  `;
}
