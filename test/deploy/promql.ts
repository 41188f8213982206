import { parser } from "@prometheus-io/lezer-promql";

/** A selector of an expression: `name{label="value"}`. */
export interface Selector {
  readonly metric: string;
  readonly matchers: readonly Matcher[];
}

interface Matcher {
  readonly label: string;
  readonly operator: string;
  readonly value: string;
}

/**
 * Parses a PromQL expression with Prometheus's own grammar.
 * @returns its selectors, and the labels by which it groups or matches.
 * @throws Error for an expression that the grammar rejects.
 */
export function parsePromql(expression: string): { selectors: Selector[]; groupings: string[] } {
  const tree = parser.parse(expression);
  tree.iterate({
    enter: ({ type, from }) => {
      if (!type.isError) return;
      throw new Error(`no PromQL: ${expression.slice(0, from)}⟨here⟩${expression.slice(from)}`);
    },
  });
  const selectors: { metric: string; matchers: Matcher[] }[] = [];
  const groupings: string[] = [];
  const textOf = (node: { from: number; to: number } | null) => {
    if (node === null) throw new Error(`a part is missing in ${expression}`);
    return expression.slice(node.from, node.to);
  };
  tree.iterate({
    enter: ({ name, node }) => {
      switch (name) {
        case "VectorSelector":
          selectors.push({ metric: textOf(node.getChild("Identifier")), matchers: [] });
          return;
        case "UnquotedLabelMatcher":
          selectors.at(-1)?.matchers.push({
            label: textOf(node.getChild("LabelName")),
            operator: textOf(node.getChild("MatchOp")),
            value: textOf(node.getChild("StringLiteral")).slice(1, -1),
          });
          return;
        case "GroupingLabels":
          groupings.push(...node.getChildren("LabelName").map(textOf));
          return;
      }
    },
  });
  return { selectors, groupings };
}
