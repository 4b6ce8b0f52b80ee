/** Where in the console one is, as the part of the address behind `#`: it can be kept, sent and gone back to. Pure. */

/**
 * @typedef {Partial<Record<'words' | 'reason' | 'type' | 'entity_type' | 'entity_id' | 'shard', string>>} Search
 * @typedef {{ page: 'stream' } | { page: 'parked' } | { page: 'audit' }
 *   | { page: 'letters', search: Search, by: string }
 *   | { page: 'letter', id: string }
 *   | { page: 'entity', type: string, id: string }} Route
 */

export const searchFields = /** @type {const} */ (['words', 'reason', 'type', 'entity_type', 'entity_id', 'shard']);
export const groupings = ['reason', 'type', 'entity', 'shard'];

/** @param {string} hash @returns {Route} */
export function parseRoute(hash) {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const parameters = new URLSearchParams(query);
  const [page, id = ''] = path.split('/', 2);
  if (page === 'letters' && /^[0-9a-f]{32}$/.test(id)) return { page: 'letter', id };
  if (page === 'letters') {
    /** @type {Search} */
    const search = {};
    for (const field of searchFields) {
      const value = parameters.get(field);
      if (value !== null && value !== '') search[field] = value;
    }
    const by = parameters.get('by') ?? '';
    return { page, search, by: groupings.includes(by) ? by : 'reason' };
  }
  if (page === 'entity') return { page, type: parameters.get('type') ?? '', id: parameters.get('id') ?? '' };
  return page === 'parked' || page === 'audit' ? { page } : { page: 'stream' };
}

/** @param {Route} route @returns {string} */
export function hrefOf(route) {
  switch (route.page) {
    case 'stream':
      return '#/';
    case 'letters': {
      const query = new URLSearchParams(/** @type {Record<string, string>} */ (route.search));
      if (route.by !== 'reason') query.set('by', route.by);
      return query.size === 0 ? '#/letters' : `#/letters?${query}`;
    }
    case 'letter':
      return `#/letters/${route.id}`;
    case 'entity':
      return `#/entity?${new URLSearchParams({ type: route.type, id: route.id })}`;
    default:
      return `#/${route.page}`;
  }
}
