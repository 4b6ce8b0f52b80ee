/** Relay leases for tests, within one process: the row that a store keeps, in memory. */
import { type LeaseRow, StoredRelayLeases } from '../../src/stores/relay-lease.ts';
import { systemTime } from '../../src/time.ts';

export class MemoryRelayLeases extends StoredRelayLeases {
  /** As if the lease had run out while its holder was stopped. */
  readonly expire: () => void;

  constructor(leaseMs = 10_000) {
    let [epoch, holder, position, untilMs] = [0, '', 0, 0];
    const row: LeaseRow = {
      async step(what, session, heldEpoch, to) {
        if (what === 'take') {
          if (untilMs > performance.now()) return null;
          epoch++;
          holder = session;
        } else if (heldEpoch !== epoch || session !== holder) return null;
        untilMs = what === 'release' ? 0 : performance.now() + leaseMs;
        position = Math.max(position, to);
        return { epoch, position };
      },
      close: async () => undefined,
    };
    super(row, leaseMs, systemTime);
    this.expire = () => void (untilMs = 0);
  }
}
