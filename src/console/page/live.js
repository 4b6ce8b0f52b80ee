/**
 * Keeps the page up to date: asks every second while the page is visible, and less and less often while the
 * server does not answer. It asks only for what the route shows.
 */
import { Rates } from './rates.js';
import { ask, hasToken, Refused, setToken } from './server.js';
import { state, update } from './state.js';

const everyMs = 1_000;
const slowestMs = 10_000;
/** In rounds, for requests that are expensive for the server. */
const rareRounds = 3;

export const rates = new Rates();

/** @type {ReturnType<typeof setTimeout> | undefined} */
let timer;
let round = 0;
let failures = 0;
let isAsking = false;
let isAskedAgain = false;
/** The last request for `letters`. */
let askedFor = '';

export function startLive() {
  document.addEventListener('visibilitychange', refresh);
  refresh();
}

/** Asks now; call it when another page is shown. */
export function refresh() {
  clearTimeout(timer);
  if (isAsking) {
    isAskedAgain = true;
    return;
  }
  if (!document.hidden) void look();
}

/** The data on display belong to another route. */
export function forget() {
  askedFor = '';
  round = 0;
  update({ letter: null, wantsPayload: false, entity: null, missing: null });
}

async function look() {
  isAsking = true;
  try {
    if (round === 0 || state.locked) await askSession();
    await askOverview();
    await askRoute();
    failures = 0;
    round++;
    update({ silence: null, locked: false, nowMs: Date.now() });
  } catch (error) {
    failures++;
    tellFailure(error);
  }
  isAsking = false;
  const waitMs = isAskedAgain ? 0 : Math.min(slowestMs, everyMs * 2 ** Math.min(failures, 4));
  isAskedAgain = false;
  // Nothing is answered without the token; entering it asks again.
  if (!document.hidden && !state.locked) timer = setTimeout(refresh, waitMs);
}

async function askSession() {
  /** @type {import('./answers.js').Session} */
  const { admin, user, has_token } = await ask('session');
  update({ admin, user, canUnlock: admin || has_token });
}

async function askOverview() {
  const { page } = state.route;
  const watches = page === 'letters' || page === 'letter' || page === 'entity';
  const overview = await ask('overview', watches ? { watch: 'letters' } : {});
  rates.note(overview.at_ms, overview.shards);
  update({ overview });
}

async function askRoute() {
  const { route } = state;
  const isRare = round % rareRounds === 0;
  if (route.page === 'letters') await askLetters(route.search);
  else if (route.page === 'parked' && isRare) update({ parked: await ask('parked') });
  else if (route.page === 'audit' && isRare) update({ audit: (await ask('audit')).entries });
  else if (route.page === 'entity')
    await askMissing(async () => update({ entity: await ask('entity', { type: route.type, id: route.id }), missing: null }));
  else if (route.page === 'letter') await askLetter(route.id, isRare);
}

/** @param {string} id @param {boolean} isRare */
async function askLetter(id, isRare) {
  const { letter, wantsPayload } = state;
  if (!isRare && letter !== null && (letter.payload !== null) === wantsPayload) return;
  await askMissing(async () => update({ letter: await ask(`letters/${id}`, wantsPayload ? { payload: '1' } : {}), missing: null }));
}

/** The list is asked for again when there was a new reading, or something else is searched. @param {Record<string, string>} search */
async function askLetters(search) {
  const wanted = `${state.overview?.dead_letters.revision} ${JSON.stringify(search)}`;
  if (wanted === askedFor && state.letters !== null) return;
  const letters = await ask('letters', search);
  if (letters.revision > 0) update({ letters });
  askedFor = letters.revision > 0 ? `${letters.revision} ${JSON.stringify(search)}` : '';
}

/** @param {() => Promise<void>} question */
async function askMissing(question) {
  try {
    await question();
  } catch (error) {
    if (!(error instanceof Refused) || (error.status !== 404 && error.status !== 400)) throw error;
    // Nothing is found before the first reading; the next round asks again.
    const isReading = state.overview !== null && state.overview.dead_letters.revision === 0;
    update({ missing: isReading ? null : error.message });
  }
}

/** @param {unknown} error */
function tellFailure(error) {
  const status = error instanceof Refused ? error.status : 0;
  if (status === 401) {
    // The token was valid before: the server was restarted with another one.
    if (hasToken()) setToken(null);
    // A server that asks for a token has one.
    update({ admin: false, user: null, locked: true, canUnlock: true });
    return;
  }
  update({ silence: error instanceof Error ? error.message : String(error) });
}
