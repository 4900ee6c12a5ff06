/** Markdown as elements.  HTML in it is text, pictures are links, and only safe links lead away. */

import { marked, type Token, type Tokens } from "marked";
import { h, type ComponentChildren, type JSX } from "preact";

export function markdown(text: string): JSX.Element {
  return <div class="markdown">{many(marked.lexer(text))}</div>;
}

function many(tokens: Token[] | undefined): ComponentChildren {
  return (tokens ?? []).map((token, i) => <Part key={i} token={token} />);
}

function Part({ token }: { token: Token }): ComponentChildren {
  switch (token.type) {
    case "heading": return h(`h${Math.min(token["depth"] as number, 6)}`, {}, many(token.tokens));
    case "paragraph": return <p>{many(token.tokens)}</p>;
    case "blockquote": return <blockquote>{many(token.tokens)}</blockquote>;
    case "code": return <pre>{(token as Tokens.Code).text}</pre>;
    case "codespan": return <code>{(token as Tokens.Codespan).text}</code>;
    case "strong": return <strong>{many(token.tokens)}</strong>;
    case "em": return <em>{many(token.tokens)}</em>;
    case "del": return <del>{many(token.tokens)}</del>;
    case "br": return <br />;
    case "hr": return <hr />;
    case "list": return list(token as Tokens.List);
    case "table": return table(token as Tokens.Table);
    case "link": return link((token as Tokens.Link).href, many(token.tokens));
    case "image": return link((token as Tokens.Image).href, (token as Tokens.Image).text || "image");
    case "space": case "def": return null;
    case "text": case "escape": return token.type === "text" && token.tokens ? many(token.tokens) : (token as Tokens.Text).text;
    default: return token.raw;
  }
}

function link(target: string, content: ComponentChildren): JSX.Element {
  const safe = /^https?:\/\//i.test(target);
  return safe ? <a href={target} target="_blank" rel="noopener noreferrer nofollow">{content}</a> : <span title={target}>{content}</span>;
}

function list(token: Tokens.List): JSX.Element {
  const items = token.items.map((item, i) => (
    <li key={i}>{item.task && <input type="checkbox" checked={item.checked ?? false} disabled />}{many(item.tokens)}</li>
  ));
  return token.ordered ? <ol>{items}</ol> : <ul>{items}</ul>;
}

function table(token: Tokens.Table): JSX.Element {
  return (
    <table>
      <thead><tr>{token.header.map((cell, i) => <th scope="col" key={i}>{many(cell.tokens)}</th>)}</tr></thead>
      <tbody>{token.rows.map((row, i) => <tr key={i}>{row.map((cell, j) => <td key={j}>{many(cell.tokens)}</td>)}</tr>)}</tbody>
    </table>
  );
}
