import ts from 'typescript';
import { emptiedConditions } from './sql.js';

/** One change of a source text that a good test notices. */
export interface Mutant {
  /** Where in the text, in characters, and what stands there instead. */
  readonly start: number;
  readonly end: number;
  readonly text: string;
  readonly line: number;
  /** The text of that line. */
  readonly on: string;
  readonly operator: Operator;
  /** What stood there. */
  readonly was: string;
}

type Operator =
  | 'condition'
  | 'logic'
  | 'comparison'
  | 'negation'
  | 'boolean'
  | 'number'
  | 'statement'
  | 'throw'
  | 'return'
  | 'await'
  | 'query'
  | 'sql';

type Edit = Pick<Mutant, 'operator' | 'text'> & { readonly start: number; readonly end: number };

const comparisons: Partial<Record<ts.SyntaxKind, readonly string[]>> = {
  [ts.SyntaxKind.EqualsEqualsEqualsToken]: ['!=='],
  [ts.SyntaxKind.ExclamationEqualsEqualsToken]: ['==='],
  [ts.SyntaxKind.LessThanToken]: ['<=', '>='],
  [ts.SyntaxKind.LessThanEqualsToken]: ['<', '>'],
  [ts.SyntaxKind.GreaterThanToken]: ['>=', '<='],
  [ts.SyntaxKind.GreaterThanEqualsToken]: ['>', '<'],
};

const arithmetic: Partial<Record<ts.SyntaxKind, string>> = {
  [ts.SyntaxKind.PlusToken]: '-',
  [ts.SyntaxKind.MinusToken]: '+',
  [ts.SyntaxKind.PlusEqualsToken]: '-=',
  [ts.SyntaxKind.MinusEqualsToken]: '+=',
};

/** A line of a log is for people; no test shall hold it. */
const logging = /\blog(?:ger)?\??\.(?:trace|debug|info|warn|error)\(/;

/**
 * All changes of a source text, in its order.
 * @param only names of the functions and methods that are meant; none: all.
 */
export function mutantsOf(source: string, only?: readonly string[]): Mutant[] {
  const file = ts.createSourceFile('mutated.ts', source, ts.ScriptTarget.Latest, true);
  const found: Mutant[] = [];
  const lines = source.split('\n');
  const visit = (node: ts.Node, meant: boolean): void => {
    if (ts.isTypeNode(node) || ts.isImportDeclaration(node) || ts.isDecorator(node)) return;
    if (ts.isIfStatement(node) && onlyLogs(node, file)) return;
    const name = ts.isFunctionLike(node) ? node.name?.getText(file) : undefined;
    const inside = meant || (name !== undefined && only?.includes(name) === true);
    for (const edit of inside ? editsOf(node, file) : []) {
      const line = file.getLineAndCharacterOfPosition(edit.start).line + 1;
      const was = source.slice(edit.start, edit.end);
      found.push({ ...edit, line, on: lines[line - 1]!.trim(), was });
    }
    ts.forEachChild(node, (child) => visit(child, inside));
  };
  visit(file, only === undefined);
  return found.sort((a, b) => a.start - b.start || a.end - b.end);
}

/** The text with one change made. */
export const mutated = (source: string, mutant: Pick<Mutant, 'start' | 'end' | 'text'>): string =>
  source.slice(0, mutant.start) + mutant.text + source.slice(mutant.end);

function editsOf(node: ts.Node, file: ts.SourceFile): Edit[] {
  if (ts.isIfStatement(node)) return constants(node.expression, ['true', 'false'], file);
  if (ts.isWhileStatement(node)) return constants(node.expression, ['false'], file);
  if (ts.isForStatement(node)) {
    return node.condition ? constants(node.condition, ['false'], file) : [];
  }
  if (ts.isConditionalExpression(node)) return constants(node.condition, ['true', 'false'], file);
  if (ts.isBinaryExpression(node)) return binaryEdits(node, file);
  if (ts.isPrefixUnaryExpression(node)) return negationEdits(node, file);
  if (ts.isExpressionStatement(node)) return statementEdits(node, file);
  if (ts.isThrowStatement(node)) return dominated(node) ? [] : [drop(node, 'throw', file)];
  if (ts.isReturnStatement(node)) return returnEdits(node, file);
  if (node.kind === ts.SyntaxKind.TrueKeyword) return [replace(node, 'false', 'boolean', file)];
  if (node.kind === ts.SyntaxKind.FalseKeyword) return [replace(node, 'true', 'boolean', file)];
  if (ts.isObjectLiteralExpression(node)) return queryEdits(node, file);
  if (ts.isNoSubstitutionTemplateLiteral(node) || ts.isStringLiteral(node)) {
    return sqlEdits(node, file);
  }
  return ts.isTemplateExpression(node) ? sqlEdits(node, file) : [];
}

function replace(node: ts.Node, text: string, operator: Operator, file: ts.SourceFile): Edit {
  return { start: node.getStart(file), end: node.getEnd(), text, operator };
}

const drop = (node: ts.Node, operator: Operator, file: ts.SourceFile): Edit =>
  replace(node, ';', operator, file);

function constants(node: ts.Expression, values: readonly string[], file: ts.SourceFile): Edit[] {
  const isConstant = node.kind === ts.SyntaxKind.TrueKeyword;
  return isConstant ? [] : values.map((value) => replace(node, value, 'condition', file));
}

/** It decides alone: that it is taken for true and for false says more than its opposite. */
function isWholeCondition(node: ts.Node): boolean {
  const { parent } = node;
  if (ts.isIfStatement(parent) || ts.isWhileStatement(parent)) return parent.expression === node;
  return ts.isConditionalExpression(parent) && parent.condition === node;
}

function binaryEdits(node: ts.BinaryExpression, file: ts.SourceFile): Edit[] {
  const { operatorToken, left, right } = node;
  const operatorEdit = (text: string, operator: Operator): Edit =>
    replace(operatorToken, text, operator, file);
  switch (operatorToken.kind) {
    case ts.SyntaxKind.AmpersandAmpersandToken:
      return mixes(node, ts.SyntaxKind.QuestionQuestionToken) ? [] : [operatorEdit('||', 'logic')];
    case ts.SyntaxKind.BarBarToken:
      return mixes(node, ts.SyntaxKind.QuestionQuestionToken) ? [] : [operatorEdit('&&', 'logic')];
    case ts.SyntaxKind.QuestionQuestionToken:
      return [replace(node, `(${left.getText(file)})`, 'logic', file)];
    default:
  }
  const numeric = ts.isNumericLiteral(left) || ts.isNumericLiteral(right);
  const sum = arithmetic[operatorToken.kind];
  if (sum !== undefined) return numeric ? [operatorEdit(sum, 'number')] : [];
  const others = comparisons[operatorToken.kind] ?? [];
  const isEquality = others.length === 1;
  if (isEquality && isWholeCondition(node)) return [];
  return others.map((text) => operatorEdit(text, 'comparison'));
}

/** `a ?? b && c` is no JavaScript without parentheses, nor is `a ?? b || c`. */
function mixes(node: ts.BinaryExpression, kind: ts.SyntaxKind): boolean {
  return [node.parent, node.left, node.right].some(
    (other) => ts.isBinaryExpression(other) && other.operatorToken.kind === kind,
  );
}

function negationEdits(node: ts.PrefixUnaryExpression, file: ts.SourceFile): Edit[] {
  if (node.operator !== ts.SyntaxKind.ExclamationToken || isWholeCondition(node)) return [];
  return [replace(node, `(${node.operand.getText(file)})`, 'negation', file)];
}

function onlyLogs({ thenStatement, elseStatement }: ts.IfStatement, file: ts.SourceFile): boolean {
  const statements = ts.isBlock(thenStatement) ? thenStatement.statements : [thenStatement];
  const isLogging = (each: ts.Statement): boolean =>
    ts.isExpressionStatement(each) && logging.test(each.getText(file));
  return elseStatement === undefined && statements.every(isLogging);
}

function statementEdits(node: ts.ExpressionStatement, file: ts.SourceFile): Edit[] {
  const { expression } = node;
  const text = expression.getText(file);
  const isSuper =
    ts.isCallExpression(expression) && expression.expression.kind === ts.SyntaxKind.SuperKeyword;
  if (isSuper || logging.test(text)) return [];
  const edits = [drop(node, 'statement', file)];
  if (ts.isAwaitExpression(expression)) {
    edits.push(replace(node, `void (${expression.expression.getText(file)});`, 'await', file));
  }
  return edits;
}

/** The last statement of a function and the only one under an `if` say nothing of their own. */
function returnEdits(node: ts.ReturnStatement, file: ts.SourceFile): Edit[] {
  if (dominated(node)) return [];
  const { parent } = node;
  const isLast = ts.isBlock(parent) && parent.statements.at(-1) === node;
  const endsFunction = isLast && ts.isFunctionLike(parent.parent);
  return endsFunction && node.expression ? [] : [drop(node, 'return', file)];
}

/** Alone under an `if`: that the condition is taken for false is the same. */
function dominated(node: ts.Statement): boolean {
  const { parent } = node;
  if (ts.isIfStatement(parent)) return true;
  return ts.isBlock(parent) && parent.statements.length === 1 && ts.isIfStatement(parent.parent);
}

const criteriaCalls = /\.(?:findOneBy|findOneByOrFail|findBy|countBy|existsBy|update|delete)$/;

/** What a query asks of a row, one by one: `where`, `lock`, and criteria given as an argument. */
function queryEdits(node: ts.ObjectLiteralExpression, file: ts.SourceFile): Edit[] {
  const { parent } = node;
  const edits: Edit[] = [];
  const isWhere = ts.isPropertyAssignment(parent) && parent.name.getText(file) === 'where';
  const isCriteria =
    ts.isCallExpression(parent) &&
    criteriaCalls.test(parent.expression.getText(file)) &&
    parent.arguments.indexOf(node) === 1;
  for (const property of node.properties) {
    const isLock = property.name?.getText(file) === 'lock';
    if (!isWhere && !isCriteria && !isLock) continue;
    const { end } = property;
    const comma = /^\s*,/.exec(file.text.slice(end))?.[0].length ?? 0;
    edits.push({ start: property.getStart(file), end: end + comma, text: '', operator: 'query' });
  }
  return edits;
}

function sqlEdits(node: ts.Node, file: ts.SourceFile): Edit[] {
  const at = node.getStart(file);
  return emptiedConditions(node.getText(file)).map(({ start, end, text }) => {
    return { start: at + start, end: at + end, text, operator: 'sql' };
  });
}
