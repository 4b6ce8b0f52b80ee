/** The structures below the sequencer, each against the most naive model of itself. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Deadlines, MinHeap } from '../../src/ordering/heap.ts';
import { Holes, maxIntervals } from '../../src/ordering/holes.ts';
import { SequenceBuffer } from '../../src/ordering/sequence-buffer.ts';
import { heapBytes } from '../support/heap.ts';
import { event } from '../support/sequencer-harness.ts';

describe('holes', () => {
  /** Leaps add holes above the last one; closings name any sequence. */
  const leap = fc.record({ kind: fc.constant('leap' as const), over: fc.nat({ max: 4 }), applies: fc.boolean() });
  const close = fc.record({ kind: fc.constant('close' as const), at: fc.nat({ max: 400 }) });
  const history = fc.array(fc.oneof(leap, close), { maxLength: 60, size: 'max' });

  it('hold what a plain set holds, through any leaps and closings', () => {
    fc.assert(
      fc.property(history, (steps) => {
        let holes = Holes.none;
        const missing = new Set<number>();
        let version = 0;
        for (const step of steps) {
          if (step.kind === 'leap') {
            const last = version + step.over;
            holes = holes.add(version + 1, last);
            for (let sequence = version + 1; sequence <= last; sequence++) missing.add(sequence);
            version = last + (step.applies ? 1 : 0);
          } else {
            holes = holes.close(step.at);
            missing.delete(step.at);
          }
        }
        assert.equal(holes.floor, Holes.none.floor, 'so few are never forgotten');
        for (let sequence = 0; sequence <= version + 1; sequence++)
          assert.equal(holes.has(sequence), missing.has(sequence), `sequence ${sequence}`);
      }),
      { numRuns: 300 },
    );
  });

  it('say the same after they were stored and read', () => {
    fc.assert(
      fc.property(history, fc.nat({ max: 50 }), (steps, floor) => {
        let holes = floor === 0 ? Holes.none : Holes.none.below(floor);
        let version = floor;
        for (const step of steps) {
          if (step.kind === 'close') holes = holes.close(step.at);
          else {
            holes = holes.add(version + 1, version + step.over);
            version += step.over + 1;
          }
        }
        const read = Holes.parse(holes.toString());
        assert.equal(read.toString(), holes.toString());
        assert.equal(read.floor, holes.floor);
        for (let sequence = 0; sequence <= version + 1; sequence++) assert.equal(read.has(sequence), holes.has(sequence));
      }),
      { numRuns: 200 },
    );
  });

  it('keep to a version that an operator sets: what it passes may still come, what lies above it is forgotten', () => {
    const holes = Holes.none.below(2).add(5, 8);
    assert.equal(holes.resynced(10, 12).toString(), 'r1;f2;5-8,11-12');
    assert.equal(holes.resynced(10, 6).toString(), 'r1;f2;5-6');
    assert.equal(holes.resynced(10, 1).toString(), 'r1;f1;');
    assert.equal(Holes.none.resynced(3, 3).resynced(3, 2).toString(), 'r2;');
    assert.equal(Holes.parse('r2;f3;5-6').add(9, 9).close(5).toString(), 'r2;f3;6,9');
  });

  it('read as written, and merge with their neighbour', () => {
    assert.equal(Holes.none.add(3, 5).add(8, 8).toString(), '3-5,8');
    assert.equal(Holes.none.below(2).add(4, 4).toString(), 'f2;4');
    assert.equal(Holes.none.below(7).toString(), 'f7;');
    assert.equal(Holes.none.add(2, 3).add(4, 6).toString(), '2-6');
    assert.equal(Holes.none.add(2, 1), Holes.none);
    assert.equal(Holes.none.add(2, 6).close(4).toString(), '2-3,5-6');
    assert.equal(Holes.parse(''), Holes.none);
  });

  it('are bounded: the lowest beyond the bound is forgotten and becomes the floor', () => {
    let holes = Holes.none;
    for (let index = 0; index < maxIntervals; index++) holes = holes.add(10 * index + 1, 10 * index + 5);
    assert.equal(holes.floor, Holes.none.floor);
    const added = holes.add(10_000, 10_001);
    assert.equal(added.floor, 5);
    assert.ok(!added.has(3) && added.has(11) && added.has(10_000));
    const split = holes.close(13);
    assert.equal(split.floor, 5);
    assert.ok(!split.has(1) && split.has(12) && !split.has(13) && split.has(14));
  });
});

describe('a sequence buffer', () => {
  type Step = { readonly kind: 'add' | 'take'; readonly sequence: number } | { readonly kind: 'takeLowest' };
  const step: fc.Arbitrary<Step> = fc.oneof(
    { weight: 3, arbitrary: fc.record({ kind: fc.constant('add' as const), sequence: fc.integer({ min: 1, max: 30 }) }) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('take' as const), sequence: fc.integer({ min: 1, max: 30 }) }) },
    { weight: 2, arbitrary: fc.record({ kind: fc.constant('takeLowest' as const) }) },
  );

  it('knows count, lowest and longest wait like a plain list, through any additions and removals', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 150, size: 'max' }), (steps) => {
        const buffer = new SequenceBuffer();
        let model: { readonly sequence: number; readonly tag: number; readonly sinceMs: number }[] = [];
        steps.forEach((one, nowMs) => {
          if (one.kind === 'add') {
            buffer.add(one.sequence, { tag: nowMs, event: event(one.sequence) }, nowMs);
            const earlier = model.find(({ sequence }) => sequence === one.sequence);
            model.push({ sequence: one.sequence, tag: nowMs, sinceMs: earlier?.sinceMs ?? nowMs });
          } else {
            const sequence = one.kind === 'take' ? one.sequence : (buffer.lowest() ?? 0);
            const expected = model.filter((held) => held.sequence === sequence).map(({ tag }) => tag);
            assert.deepEqual(
              (buffer.take(sequence) ?? []).map(({ tag }) => tag),
              expected,
            );
            model = model.filter((held) => held.sequence !== sequence);
          }
          assert.equal(buffer.count, model.length);
          assert.equal(buffer.lowest(), model.length === 0 ? null : Math.min(...model.map(({ sequence }) => sequence)));
          assert.equal(buffer.oldestMs(), model.length === 0 ? null : Math.min(...model.map(({ sinceMs }) => sinceMs)));
          assert.equal([...buffer.deliveries()].length, model.length);
        });
        const drained = buffer.drain().map(({ event: one }) => one.sequence ?? 0);
        assert.deepEqual(
          drained,
          model.map(({ sequence }) => sequence).sort((a, b) => a - b),
        );
        assert.equal(buffer.count, 0);
        assert.equal(buffer.oldestMs(), null);
      }),
      { numRuns: 300 },
    );
  });

  it('does not grow while it is never quite empty', () => {
    const buffer = new SequenceBuffer();
    const usedAfter = (cycles: number): number => {
      for (let at = 0; at < cycles; at++) {
        next++;
        buffer.add(next, { tag: next, event: one }, next);
        buffer.take(next - 1);
      }
      return heapBytes();
    };
    const one = event(1);
    let next = 1;
    buffer.add(next, { tag: 1, event: one }, 0);
    const before = usedAfter(1_000);
    assert.ok(usedAfter(100_000) - before < 2_000_000);
    assert.equal(buffer.count, 1);
  });
});

describe('a heap', () => {
  it('gives back in order whatever was put in, mixed with removals', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.integer({ min: -50, max: 50 }), { freq: 3 }), { maxLength: 120, size: 'max' }), (steps) => {
        const heap = new MinHeap<number>((key) => key);
        const model: number[] = [];
        for (const one of steps) {
          if (one === null) {
            model.sort((a, b) => a - b);
            assert.equal(heap.peek(), model[0]);
            assert.equal(heap.pop(), model.shift());
          } else {
            heap.push(one);
            model.push(one);
          }
          assert.equal(heap.size, model.length);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('deadlines', () => {
  it('give each item once when its earliest time has come, never sleep past it, and wake nobody for what is gone', () => {
    const step = fc.oneof(
      fc.record({ item: fc.nat({ max: 5 }), inMs: fc.integer({ min: 1, max: 50 }) }),
      fc.record({ pass: fc.integer({ min: 1, max: 30 }) }),
      fc.record({ gone: fc.nat({ max: 5 }) }),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 80, size: 'max' }), (steps) => {
        const deadlines = new Deadlines<number>();
        const model = new Map<number, number>();
        let nowMs = 0;
        for (const one of steps) {
          if ('item' in one) {
            deadlines.set(one.item, nowMs + one.inMs);
            model.set(one.item, Math.min(model.get(one.item) ?? Number.POSITIVE_INFINITY, nowMs + one.inMs));
          } else if ('gone' in one) {
            deadlines.delete(one.gone);
            model.delete(one.gone);
          } else {
            nowMs += one.pass;
            const due = [...model].filter(([, atMs]) => atMs <= nowMs).map(([item]) => item);
            assert.deepEqual([...deadlines.takeDue(nowMs)].sort(), due.sort());
            for (const item of due) model.delete(item);
          }
          const next = deadlines.nextMs;
          if (model.size > 0) assert.ok(next !== null && next <= Math.min(...model.values()));
          else assert.equal(next, null, 'with nothing due nobody is woken');
        }
        deadlines.clear();
        assert.equal(deadlines.nextMs, null);
        assert.deepEqual(deadlines.takeDue(Number.MAX_SAFE_INTEGER), []);
      }),
      { numRuns: 300 },
    );
  });
});
