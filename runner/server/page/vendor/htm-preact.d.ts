// What the page uses of htm/preact/standalone, for the type checker.
export type Node = object | string | number | boolean | null | undefined | Node[];
export function html(parts: TemplateStringsArray, ...values: unknown[]): Node;
export function render(node: Node, parent: Element): void;
export function useState<T>(first: T | (() => T)): [T, (next: T | ((now: T) => T)) => void];
export function useReducer<T, A>(step: (now: T, action: A) => T, first: T): [T, (action: A) => void];
export function useEffect(effect: () => void | (() => void), when?: unknown[]): void;
export function useLayoutEffect(effect: () => void | (() => void), when?: unknown[]): void;
export function useRef<T>(first: T): { current: T };
export function useMemo<T>(make: () => T, when: unknown[]): T;
