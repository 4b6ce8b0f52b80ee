/**
 * The console's API: one row for each thing that can be asked, with whether it needs the token. Whoever comes here has
 * passed the gate for that.
 *
 * Why no router: a dozen rows, looked through in order, take four lines in `console.ts`; a router keeps neither the gate nor these rows.
 */
import { ConfigError } from '../errors.ts';
import { type Answer, json } from './answer.ts';
import type { Change, ChangeRequest, Changes } from './changes.ts';
import { searchOf } from './letter-search.ts';
import type { StreamView } from './stream-view.ts';

export interface ApiRequest {
  /** What the path's pattern left open. */
  readonly id: string;
  readonly query: URLSearchParams;
  readonly body: Readonly<Record<string, unknown>>;
  /** Whether the token was shown. */
  readonly admin: boolean;
  /** Where the request comes from. */
  readonly address: string;
}

export interface Route {
  readonly method: 'GET' | 'POST';
  /** Below `/console/api/`; its group is the id. */
  readonly path: RegExp;
  readonly needsAdmin: (query: URLSearchParams) => boolean;
  readonly answer: (request: ApiRequest) => Promise<Answer>;
}

export interface ApiParts {
  readonly view: StreamView;
  readonly changes: Changes;
  /** Whether ADMIN_TOKEN is set. */
  readonly hasToken: boolean;
}

const always = () => true;
const never = () => false;
const gone = json(404, { error: 'there is nothing of that name (any more)' });

export function apiRoutes({ view, changes, hasToken }: ApiParts): readonly Route[] {
  const get = (path: RegExp, answer: Route['answer'], needsAdmin: Route['needsAdmin'] = never): Route => ({
    method: 'GET',
    path,
    needsAdmin,
    answer,
  });
  const post = (path: RegExp, answer: Route['answer'], needsAdmin: Route['needsAdmin'] = always): Route => ({
    method: 'POST',
    path,
    needsAdmin,
    answer,
  });
  return [
    get(/^session$/, async ({ admin }) => json(200, { admin, has_token: hasToken })),
    get(/^overview$/, async ({ query }) => json(200, await view.overview(query.get('watch') === 'letters'))),
    get(/^parked$/, async () => json(200, await view.parked())),
    get(/^letters$/, async ({ query }) => json(200, view.letters(searchOf(Object.fromEntries(query))) ?? { revision: 0 })),
    get(/^letters\/([0-9a-f]{32})$/, ({ id, query }) => found(view.letter(id, wantsPayload(query))), wantsPayload),
    get(/^entity$/, async ({ query }) => json(200, await view.entity(entityOf(query)))),
    get(/^audit$/, async () => json(200, await view.audit())),
    // It changes nothing but what the broker notes of a reading.
    post(/^letters\/read$/, async () => readAgain(view), never),
    post(/^changes$/, async ({ body, address }) => accepted(changes.begin(changeOf(body, address)))),
    get(/^changes\/([0-9a-f-]{36})$/, async ({ id }) => found(changes.find(id)?.view() ?? null), always),
    post(/^changes\/([0-9a-f-]{36})\/confirm$/, async ({ id }) => confirmed(changes.find(id))),
    post(/^changes\/([0-9a-f-]{36})\/stop$/, async ({ id }) => stopped(changes.find(id))),
  ];
}

const wantsPayload = (query: URLSearchParams) => query.get('payload') === '1';

async function found(value: Promise<object | null> | object | null): Promise<Answer> {
  const object = await value;
  return object === null ? gone : json(200, object);
}

function readAgain(view: StreamView): Answer {
  view.catalogue.outdate();
  return json(202, {});
}

function accepted(change: Change): Answer {
  return json(202, change.view());
}

function confirmed(change: Change | null): Answer {
  if (change === null) return gone;
  return change.confirm()
    ? json(202, change.view())
    : json(409, { error: 'this plan was carried out already, or it is too old: make a new one' });
}

function stopped(change: Change | null): Answer {
  if (change === null) return gone;
  change.stop();
  return json(202, change.view());
}

function entityOf(query: URLSearchParams) {
  const entityType = query.get('type');
  const entityId = query.get('id');
  if (entityType === null || entityId === null) throw new ConfigError(['type and id of the entity are missing']);
  return { entityType, entityId };
}

const longestWhy = 1_000;

/** @throws ConfigError with everything that is wrong with it. */
export function changeOf(body: Readonly<Record<string, unknown>>, address: string): ChangeRequest {
  const { action, ready_only = false, skip_sequence = false, why = '', all = false, ...fields } = body;
  const problems: string[] = [];
  if (action !== 'replay' && action !== 'discard') problems.push('action must be replay or discard');
  for (const [name, value] of Object.entries({ ready_only, skip_sequence, all }))
    if (typeof value !== 'boolean') problems.push(`${name} must be true or false`);
  const reason = typeof why === 'string' ? why.trim() : '';
  if (typeof why !== 'string' || why.length > longestWhy) problems.push(`why must be a text of at most ${longestWhy} characters`);
  if (action === 'discard' && reason === '') problems.push('a discard needs a why, which is kept with it');
  const isSelective = Object.keys(fields).length > 0 || (action === 'replay' && ready_only === true);
  if (!isSelective && all !== true) problems.push('say which dead letters, or all: true');
  if (problems.length > 0) throw new ConfigError(problems);
  return {
    action: action as ChangeRequest['action'],
    search: searchOf(fields),
    readyOnly: ready_only === true,
    skipSequence: skip_sequence === true,
    reason,
    who: `console ${address}`,
  };
}
