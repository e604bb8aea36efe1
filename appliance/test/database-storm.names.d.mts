export function projectOf(n: number): string;
export function moveOf(n: number): string;
export function accountOf(n: number): string;
export function urlOf(n: number): string;
