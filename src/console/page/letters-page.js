/** The dead letters: counted by what they have in common, searched, listed, and replayed or discarded as they are shown. */
import { beginChange, readAgain, searchFor } from './actions.js';
import { html, ChangeButton, EntityLink, Foreign, Nothing, Reason, Share } from './parts.js';
import { groupings, hrefOf } from './route.js';
import { ago, counted, number, time } from './text.js';

/** @typedef {import('./state.js').State} State */

/** @param {{ state: State }} props */
export function LettersPage({ state }) {
  const { letters, overview, route } = state;
  if (route.page !== 'letters' || overview === null) return null;
  const { search, by } = route;
  const { dead_letters } = overview;
  return html`
    <h1 class="unseen">Dead letters</h1>
    <${Search} search=${search} />
    <p class="reading" role="status">${readingText(state)} <button type="button" class="plain" onClick=${readAgain} disabled=${dead_letters.reading !== null}>Read again</button></p>
    ${dead_letters.trouble === null ? null : html`<p class="note bad">${dead_letters.trouble}</p>`}
    ${
      letters === null
        ? null
        : html`<div class="letters">
          <${Groups} letters=${letters} search=${search} by=${by} />
          <section>
            <${Bar} state=${state} letters=${letters} search=${search} />
            <${List} letters=${letters} nowMs=${state.nowMs} />
          </section>
        </div>`
    }
  `;
}

/** @param {State} state */
function readingText({ overview, letters, nowMs }) {
  const { reading, ready } = /** @type {NonNullable<State['overview']>} */ (overview).dead_letters;
  if (reading !== null) return `Reading the queue: ${number(reading)} of ${number(ready)} so far.`;
  if (letters === null) return 'The queue was not read yet.';
  return `${counted(letters.total, 'dead letter')}, read ${ago(letters.as_of, nowMs)}.`;
}

/** @param {{ search: import('./route.js').Search }} props */
function Search({ search }) {
  const { words = '', ...chosen } = search;
  return html`
    <form class="search" role="search" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
      <input type="search" name="words" value=${words} placeholder="Search id, entity, type, reason, detail" aria-label="Search the dead letters" autocomplete="off" spellcheck=${false}
        onInput=${(/** @type {InputEvent} */ event) => searchFor({ words: /** @type {HTMLInputElement} */ (event.target).value })} />
      ${Object.entries(chosen).map(
        ([field, value]) => html`
        <button type="button" class="chip" key=${field} onClick=${() => searchFor({ [field]: '' })} aria-label=${`Remove ${field} ${value}`}>
          <span>${field.replace('_', ' ')}</span> <${Foreign} text=${value} /> <span aria-hidden="true">×</span>
        </button>`,
      )}
    </form>
  `;
}

/** @param {{ letters: import('./answers.js').Letters, search: import('./route.js').Search, by: string }} props */
function Groups({ letters, search, by }) {
  const groups = letters.groups[by] ?? { rows: [], total: 0 };
  const most = Math.max(1, ...groups.rows.map(({ count }) => count));
  return html`
    <aside class="groups" aria-label="Groups">
      <nav aria-label="Group by">${groupings.map((name) => html`<a key=${name} href=${hrefOf({ page: 'letters', search, by: name })} aria-current=${name === by ? 'true' : undefined}>${name}</a>`)}</nav>
      <ol>${groups.rows.map((group) => html`<${GroupRow} key=${String(group.name)} group=${group} most=${most} by=${by} />`)}</ol>
      ${groups.total > groups.rows.length ? html`<p class="quiet">and ${number(groups.total - groups.rows.length)} more</p>` : null}
    </aside>
  `;
}

/** @param {{ group: import('./answers.js').Group, most: number, by: string }} props */
function GroupRow({ group, most, by }) {
  const { name, count, first, last, search } = group;
  const inner = html`<span class="name">${by === 'shard' && name !== null ? `shard ${name}` : html`<${Foreign} text=${name} />`}</span><span class="n">${number(count)}</span><${Share} part=${count / most} tone="bad" />`;
  const title = `first ${time(first)}, last ${time(last)} UTC`;
  return html`<li title=${title}>${search === null ? html`<span class="group">${inner}</span>` : html`<a class="group" href=${hrefOf({ page: 'letters', search, by })}>${inner}</a>`}</li>`;
}

/** @param {{ state: State, letters: import('./answers.js').Letters, search: import('./route.js').Search }} props */
function Bar({ state, letters, search }) {
  const isAll = Object.keys(search).length === 0;
  const which = isAll ? { all: true } : search;
  const title = isAll ? 'all dead letters' : counted(letters.found, 'dead letter');
  const can = state.canUnlock && letters.found > 0;
  return html`
    <div class="bar">
      <p><b>${number(isAll ? letters.total : letters.found)}</b> ${isAll ? 'in all' : 'found'}${letters.kept < letters.total ? html` <small>among the oldest ${number(letters.kept)}</small>` : null}</p>
      <${ChangeButton} name="ready" can=${can} act=${() => beginChange('replay', 'Replay entities that are ready', { ...search, ready_only: true })}>Replay ready…<//>
      <${ChangeButton} name="replay" can=${can} act=${() => beginChange('replay', `Replay ${title}`, which)}>Replay…<//>
      <${ChangeButton} name="discard" can=${can} tone="danger" act=${() => beginChange('discard', `Discard ${title}`, which)}>Discard…<//>
    </div>
  `;
}

/** @param {{ letters: import('./answers.js').Letters, nowMs: number }} props */
function List({ letters, nowMs }) {
  if (letters.letters.length === 0)
    return html`<${Nothing}>${letters.total === 0 ? 'There are no dead letters.' : 'Nothing was found.'}<//>`;
  /** Copies of a message share a fingerprint. @type {Map<string, number>} */
  const copies = new Map();
  const keyOf = (/** @type {string} */ fingerprint) => {
    copies.set(fingerprint, (copies.get(fingerprint) ?? 0) + 1);
    return `${fingerprint} ${copies.get(fingerprint)}`;
  };
  return html`
    <table class="cards list">
      <thead><tr><th>message</th><th>entity</th><th class="n">seq</th><th>type</th><th>reason</th><th class="n">shard</th><th>since</th></tr></thead>
      <tbody>${letters.letters.map((letter) => html`<${LetterRow} key=${keyOf(letter.fingerprint)} letter=${letter} nowMs=${nowMs} />`)}</tbody>
    </table>
    ${letters.found > letters.letters.length ? html`<p class="quiet">The oldest ${number(letters.letters.length)} are shown.</p>` : null}
  `;
}

/** @param {{ letter: import('./answers.js').Letter, nowMs: number }} props */
function LetterRow({ letter, nowMs }) {
  const { fingerprint, message_id, entity_type, entity_id, sequence, type, reason, shard, detail, dead_lettered_at, replays } = letter;
  return html`
    <tr>
      <td data-label="message" class="id"><a data-row="" href=${hrefOf({ page: 'letter', id: fingerprint })}><${Foreign} text=${message_id} /></a>${replays > 0 ? html` <small class="quiet" title="times replayed">↻ ${replays}</small>` : null}</td>
      <td data-label="entity" class="long"><${EntityLink} type=${entity_type} id=${entity_id} /></td>
      <td data-label="seq" class="n">${number(sequence)}</td>
      <td data-label="type" class="long"><${Foreign} text=${type} /></td>
      <td data-label="reason" title=${detail}><${Reason} reason=${reason} /></td>
      <td data-label="shard" class="n">${shard ?? '–'}</td>
      <td data-label="since" title=${`${time(dead_lettered_at)} UTC`} class="since">${ago(dead_lettered_at, nowMs)}</td>
    </tr>
  `;
}
