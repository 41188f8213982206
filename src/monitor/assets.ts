// oxlint-disable import/default -- what is imported as text has a default export, which is that
import iconText from "#browser/icon.svg" with { type: "text" };
import styleText from "#browser/style.css" with { type: "text" };
import plotStyle from "#uplot/uPlot.min.css" with { type: "text" };
import plot from "#uplot/uPlot.iife.min.js" with { type: "text" };
import charts from "#browser/charts.ts" with { type: "text" };
import command from "#browser/command.ts" with { type: "text" };
import covered from "#browser/covered.ts" with { type: "text" };
import dom from "#browser/dom.ts" with { type: "text" };
import main from "#browser/main.ts" with { type: "text" };
import panels from "#browser/panels.ts" with { type: "text" };
import poll from "#browser/poll.ts" with { type: "text" };
import timeline from "#browser/timeline.ts" with { type: "text" };
import words from "#browser/words.ts" with { type: "text" };

/** A file that the page loads. */
export interface Asset {
  readonly path: string;
  readonly type: string;
  /** What it holds; made when it is first asked for. */
  readonly text: () => string;
}

/** The page's own scripts: each is a module of the browser, and imports the others by their names here. */
const MODULES: Readonly<Record<string, string>> = {
  charts,
  command,
  covered,
  dom,
  main,
  panels,
  poll,
  timeline,
  words,
};

function scriptOf(name: string, module: string): Asset {
  let script: string | undefined;
  const transpile = () => {
    const transpiler = new Bun.Transpiler({
      loader: "ts",
      target: "browser",
      minifyWhitespace: true,
    });
    return transpiler.transformSync(module);
  };
  const text = () => (script ??= transpile());
  return { path: `/page/${name}.ts`, type: "text/javascript; charset=utf-8", text };
}

/** All that the page loads, beside itself and `/status.json`. */
export const ASSETS: readonly Asset[] = [
  { path: "/page/icon.svg", type: "image/svg+xml", text: () => iconText },
  { path: "/page/style.css", type: "text/css; charset=utf-8", text: () => styleText },
  { path: "/page/uplot.css", type: "text/css; charset=utf-8", text: () => plotStyle },
  { path: "/page/uplot.js", type: "text/javascript; charset=utf-8", text: () => plot },
  ...Object.entries(MODULES).map(([name, module]) => scriptOf(name, module)),
];
