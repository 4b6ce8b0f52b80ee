/**
 * The console's API: one row per request, with its guard. On loopback everybody may read; changes, and the headers
 * and bodies of messages, are for operators.
 */
import { ConfigError } from '../errors.ts';
import type { Gate } from '../observability/gate.ts';
import { type Answer, type Guard, type HttpRequest, json, type Route } from '../observability/http.ts';
import type { Change, ChangeRequest, Changes } from './changes.ts';
import type { Session } from './page/answers.d.ts';
import { searchOf } from './letter-json.ts';
import type { StreamView } from './stream-view.ts';

export interface ApiParts {
  readonly view: StreamView;
  readonly changes: Changes;
  readonly gate: Gate;
}

const gone = json(404, { error: 'there is nothing of that name (any more)' });

export function apiRoutes({ view, changes, gate }: ApiParts): readonly Route[] {
  const { viewers, operators } = gate;
  const payloadForOperators: Guard = (visitor, query) => (wantsPayload(query) ? operators : viewers)(visitor, query);
  const row = (method: 'GET' | 'POST', path: string, guard: Guard, answer: Route['answer']): Route => ({
    method,
    path: `/console/api/${path}`,
    guard,
    answer,
  });
  return [
    row('GET', 'session', viewers, ({ user }) => {
      const session: Session = { admin: user?.role === 'operator', user: user?.name ?? null, has_token: gate.hasOperatorToken };
      return json(200, session);
    }),
    row('GET', 'overview', viewers, async ({ query }) => json(200, await view.overview(query.get('watch') === 'letters'))),
    row('GET', 'parked', viewers, async () => json(200, await view.parked())),
    row('GET', 'letters', viewers, ({ query }) => json(200, view.letters(searchOf(Object.fromEntries(query))) ?? { revision: 0 })),
    row('GET', 'letters/:id', payloadForOperators, async ({ id, query }) => found(await view.letter(id, wantsPayload(query)))),
    row('GET', 'entity', viewers, async ({ query }) => json(200, await view.entity(entityOf(query)))),
    row('GET', 'audit', viewers, async () => json(200, await view.audit())),
    // It changes nothing, except for the broker's marks of a reading.
    row('POST', 'letters/read', viewers, () => {
      view.catalogue.outdate();
      return json(202, {});
    }),
    row('POST', 'changes', operators, (request) => json(202, changes.begin(changeOf(request)).view())),
    row('GET', 'changes/:id', operators, ({ id }) => found(changes.find(id)?.view() ?? null)),
    row('POST', 'changes/:id/confirm', operators, ({ id }) => confirmed(changes.find(id))),
    row('POST', 'changes/:id/stop', operators, ({ id }) => stopped(changes.find(id))),
  ];
}

const wantsPayload = (query: URLSearchParams) => query.get('payload') === '1';

function found(value: object | null): Answer {
  return value === null ? gone : json(200, value);
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

/** @throws ConfigError with all problems. */
export function changeOf({ body, user, address }: Pick<HttpRequest, 'body' | 'user' | 'address'>): ChangeRequest {
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
    who: `console ${user?.name == null ? address : `${user.name}@${address}`}`,
  };
}
