/** One dead letter: why it is here, what it usually comes from, what to do, how it stands with its entity; on request all of it. */
import { beginChange, showPayload } from './actions.js';
import { html, ChangeButton, EntityLink, Fact, Foreign, Nothing, Reason } from './parts.js';
import { hrefOf } from './route.js';
import { counted, number, time, visible, visibleLines } from './text.js';

/** @typedef {import('./answers.js').LetterDetail} Letter */

/** @param {{ state: import('./state.js').State }} props */
export function LetterPage({ state }) {
  const { letter, missing, canUnlock } = state;
  if (missing !== null)
    return html`<${Nothing}>This message is no dead letter (any more): it was replayed or discarded, or is among those that the console does not keep. <a href="#/letters">All dead letters</a><//>`;
  if (letter === null) return html`<${Nothing}>Looking for the message…<//>`;
  const { entity_type, entity_id } = letter;
  const entity = entity_type === null || entity_id === null ? null : { entity_type, entity_id };
  return html`
    <header class="title">
      <p class="crumbs"><a href="#/letters">Dead letters</a> › message</p>
      <h1><${Foreign} text=${letter.message_id} /></h1>
      <div class="bar">
        <${ChangeButton} name="replay" can=${canUnlock} act=${() => beginChange('replay', 'Replay this message', { message_id: letter.fingerprint })}>Replay…<//>
        ${entity === null ? null : html`<${ChangeButton} name="replay-entity" can=${canUnlock} act=${() => beginChange('replay', 'Replay everything of the entity', entity)}>Replay the entity…<//>`}
        <${ChangeButton} name="discard" can=${canUnlock} tone="danger" act=${() => beginChange('discard', 'Discard this message', { message_id: letter.fingerprint })}>Discard…<//>
      </div>
    </header>
    <section class="verdict">
      <p><${Reason} reason=${letter.reason} /> <b>${letter.meaning}</b></p>
      <dl class="facts">
        <${Fact} name="detail"><${Foreign} text=${letter.detail} /><//>
        ${letter.status === null ? null : html`<${Fact} name="status"><${Foreign} text=${letter.status} /><//>`}
        <${Fact} name="usual cause">${letter.cause}<//>
        <${Fact} name="remedy">${letter.remedy}<//>
      </dl>
      ${letter.stack === null ? null : html`<pre class="body" tabindex="0">${visibleLines(letter.stack)}</pre>`}
    </section>
    <${Facts} letter=${letter} />
    <${Payload} letter=${letter} canUnlock=${canUnlock} />
  `;
}

/** @param {{ letter: Letter }} props */
function Facts({ letter }) {
  const { entity_type, entity_id, sequence, type, shard, copies, entity_version, entity_parked } = letter;
  return html`
    <section>
      <dl class="facts">
        <${Fact} name="entity"><${EntityLink} type=${entity_type} id=${entity_id} /><//>
        <${Fact} name="sequence">${number(sequence)}${entity_version === null ? null : html` <span class="quiet">at version ${number(entity_version)}${entity_parked ? ', parked' : ''}</span>`}<//>
        <${Fact} name="type"><${Foreign} text=${type} /><//>
        <${Fact} name="shard">${shard ?? 'not known'}<//>
        <${Fact} name="since">${time(letter.dead_lettered_at)} UTC<//>
        <${Fact} name="replays">${letter.replayed_at.length === 0 ? 'none' : `${letter.replayed_at.length}: ${letter.replayed_at.map(time).join(', ')}`}<//>
        <${Fact} name="copies">${number(copies)}${copies > 1 ? html` <span class="quiet">of the same bytes; what is done is done to all of them</span>` : null}<//>
        <${Fact} name="fingerprint"><code>${letter.fingerprint}</code><//>
      </dl>
    </section>
  `;
}

/** @param {{ letter: Letter, canUnlock: boolean }} props */
function Payload({ letter, canUnlock }) {
  const { payload, body_bytes, content_type } = letter;
  if (payload === null) {
    return html`
      <section>
        <h2>Headers and body <small>${counted(body_bytes, 'byte')}${content_type === null ? '' : `, ${visible(content_type)}`}</small></h2>
        <${ChangeButton} name="payload" can=${canUnlock} act=${showPayload}>Show headers and body<//>
        ${canUnlock ? null : html`<p class="quiet">They are shown where ADMIN_TOKEN is set and given.</p>`}
      </section>`;
  }
  return html`
    <section>
      <h2>Headers</h2>
      <dl class="facts headers">
        <${Fact} name="routing key"><${Foreign} text=${payload.routing_key} /><//>
        ${payload.headers.map(([name, value]) => html`<${Fact} key=${name} name=${visible(name)}><${Foreign} text=${value} /><//>`)}
      </dl>
      <h2>Body <small>${counted(body_bytes, 'byte')}, ${payload.body_kind === 'base64' ? 'not text: base64' : payload.body_kind}</small></h2>
      <pre class="body" tabindex="0">${payload.body === '' ? '(empty)' : visibleLines(payload.body)}</pre>
      ${payload.cut_bytes > 0 ? html`<p class="quiet">and ${counted(payload.cut_bytes, 'byte')} more: <code>inorder dead-letters show ${letter.fingerprint} --json</code> prints all of them</p>` : null}
      <p><a href=${hrefOf({ page: 'letters', search: { words: letter.fingerprint }, by: 'reason' })}>Find it in the list</a></p>
    </section>
  `;
}
