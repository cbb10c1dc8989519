// Tooltips on hover and focus, arrow keys inside a figure, folded tables opened for print. The page is whole without it.
(function () {
  "use strict";
  var tip = document.getElementById("tip");

  function show(mark) {
    var box = mark.getBoundingClientRect();
    tip.textContent = mark.dataset.tip;
    tip.hidden = false;
    var left = box.left + box.width / 2 - tip.offsetWidth / 2;
    tip.style.left = Math.max(8, Math.min(left, document.documentElement.clientWidth - tip.offsetWidth - 8)) + "px";
    var above = box.top - tip.offsetHeight - 8;
    tip.style.top = (above > 8 ? above : box.bottom + 8) + "px";
  }
  function hide() { tip.hidden = true; }

  // the mark nearest to where an arrow key points; null at the border
  function neighbour(marks, from, key) {
    var row = +from.dataset.row, column = +from.dataset.column;
    var best = null, least = Infinity;
    marks.forEach(function (mark) {
      var down = +mark.dataset.row - row, right = +mark.dataset.column - column;
      var ahead = { ArrowUp: -down, ArrowDown: down, ArrowLeft: -right, ArrowRight: right }[key];
      var aside = key === "ArrowUp" || key === "ArrowDown" ? Math.abs(right) : Math.abs(down);
      if (ahead > 0 && ahead + 100 * aside < least) { best = mark; least = ahead + 100 * aside; }
    });
    return best;
  }

  document.querySelectorAll("svg").forEach(function (svg) {
    var marks = Array.prototype.slice.call(svg.querySelectorAll(".hit"));
    marks.forEach(function (mark, i) {
      var title = mark.querySelector("title");
      mark.dataset.tip = title.textContent;
      mark.setAttribute("aria-label", title.textContent);
      title.remove();
      // one stop of the tab key per figure; arrow keys move inside
      mark.setAttribute("tabindex", i ? "-1" : "0");
      mark.addEventListener("mouseenter", function () { show(mark); });
      mark.addEventListener("mouseleave", hide);
      mark.addEventListener("focus", function () { show(mark); });
      mark.addEventListener("blur", hide);
      mark.addEventListener("keydown", function (event) {
        if (event.key === "Escape") { hide(); return; }
        if (event.key.indexOf("Arrow") !== 0) { return; }
        var next = neighbour(marks, mark, event.key);
        if (next) {
          event.preventDefault();
          mark.setAttribute("tabindex", "-1");
          next.setAttribute("tabindex", "0");
          next.focus();
        }
      });
    });
  });
  // the tooltip of a focused mark follows it; one under the pointer goes
  window.addEventListener("scroll", function () {
    var mark = document.activeElement;
    if (mark && mark.dataset && mark.dataset.tip) { show(mark); } else { hide(); }
  }, { passive: true, capture: true });

  // on paper nothing is folded
  window.addEventListener("beforeprint", function () {
    document.querySelectorAll("details:not([open])").forEach(function (d) { d.open = true; d.dataset.folded = "1"; });
  });
  window.addEventListener("afterprint", function () {
    document.querySelectorAll("details[data-folded]").forEach(function (d) { d.open = false; delete d.dataset.folded; });
  });
})();
