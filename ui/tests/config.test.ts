import { describe, expect, it } from 'vitest';
import { differences, textOf } from '../src/pages/config/differences';
import { byLine, told } from '../src/pages/config/mistakes';

describe('what a change changed', () => {
  it('is told by the paths of what differs alone', () => {
    const before = { name: 'a', limits: { rpm: 5, budget_usd: { day: '1' } }, models: ['x'], expires: null };
    const after = { name: 'a', limits: { rpm: 6, budget_usd: { day: '1' } }, models: ['x', 'y'] };
    expect(differences(before, after)).toEqual([
      { name: 'limits.rpm', before: 5, after: 6 },
      { name: 'models', before: ['x'], after: ['x', 'y'] },
    ]);
  });

  it('is all that says something when something was made or removed', () => {
    expect(differences(null, { name: 'a', user: null, models: [], limits: { rpm: 1 } }).map(({ name }) => name)).toEqual(['name', 'limits.rpm']);
    expect(differences({ name: 'a' }, null)).toEqual([{ name: 'name', before: 'a', after: undefined }]);
    expect(differences(null, null)).toEqual([]);
    expect([textOf(undefined), textOf([]), textOf('a'), textOf(['a']), textOf(false)]).toEqual(['—', '—', 'a', '["a"]', 'false']);
  });
});

describe('mistakes of a configuration', () => {
  it('are read from text with their place, if it has one', () => {
    expect(told('weir.yaml:3:5: unknown field')).toEqual({ file: 'weir.yaml', line: 3, column: 5, field: null, message: 'unknown field' });
    expect(told('/etc/weir/weir.yaml:12:1: a: b')).toMatchObject({ file: '/etc/weir/weir.yaml', line: 12, message: 'a: b' });
    expect(told('3:5: no file')).toMatchObject({ file: null, line: 3, column: 5, message: 'no file' });
    expect(told('nothing is listened to')).toMatchObject({ line: null, message: 'nothing is listened to' });
  });

  it('stand at lines of the file itself and not of another that it names', () => {
    const wrong = [
      { line: 2, column: 1, file: '/etc/weir.yaml', field: null, message: 'a' },
      { line: 2, column: 9, file: null, field: null, message: 'b' },
      { line: 2, column: 1, file: '/etc/prices.yaml', field: null, message: 'c' },
      { line: null, column: null, file: null, field: null, message: 'd' },
    ];
    expect([...byLine(wrong, '/etc/weir.yaml')]).toEqual([[2, ['a', 'b']]]);
  });
});
