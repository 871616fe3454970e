// The divider between before and after, on the photo itself: dragged, or moved with arrow keys.

import { byId, show } from "../dom.js";
import { t } from "../i18n/index.js";
import { Board } from "./board.js";

const KEY_STEP = 0.01; // of the photo's width

/** @param {Board} board */
export function showDivider(board) {
  const divider = byId("divider", HTMLElement);
  const { view } = board;

  const place = () => {
    show("divider", view.comparing);
    board.element.classList.toggle("comparing", view.comparing);
    if (!view.comparing) return;
    const top = view.toScreen({ x: view.split * view.width, y: 0 });
    const bottom = view.toScreen({ x: 0, y: view.height });
    const high = Math.max(0, top.y);
    divider.style.left = `${top.x}px`;
    divider.style.top = `${high}px`;
    divider.style.height = `${Math.min(board.element.clientHeight, bottom.y) - high}px`;
    const percent = Math.round(view.split * 100);
    divider.setAttribute("aria-valuenow", String(percent));
    divider.setAttribute("aria-valuetext", t().dividerAt(percent));
  };

  /** @param {number} split Of the photo's width. */
  const move = (split) => {
    view.split = Math.min(1, Math.max(0, split));
    view.redraw();
    place();
  };

  divider.addEventListener("pointerdown", (event) => {
    event.stopPropagation(); // the board would pan
    event.preventDefault();
    divider.focus({ preventScroll: true });
    divider.setPointerCapture(event.pointerId);
  });
  divider.addEventListener("pointermove", (event) => {
    event.stopPropagation();
    if (divider.hasPointerCapture(event.pointerId)) move(view.toPhoto(event).x / view.width);
  });
  divider.addEventListener("pointerup", (event) => event.stopPropagation());
  divider.addEventListener("keydown", (event) => {
    const step = event.shiftKey ? 10 * KEY_STEP : KEY_STEP;
    const to = {
      ArrowLeft: view.split - step,
      ArrowDown: view.split - step,
      ArrowRight: view.split + step,
      ArrowUp: view.split + step,
      Home: 0,
      End: 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    move(to);
  });
  const drawn = view.onDraw;
  view.onDraw = () => {
    drawn();
    place();
  };
}
