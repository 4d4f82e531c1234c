// What the theme leaves out for people who use a keyboard or a screen reader.
document.addEventListener("DOMContentLoaded", () => {
  for (const caption of document.querySelectorAll('.caption[role="heading"]')) caption.setAttribute("aria-level", "2");
  for (const wide of document.querySelectorAll("pre, .table-wrapper")) wide.tabIndex = 0; // to scroll by keys
  for (const part of document.querySelectorAll("dt > dl, dt > dl > dd")) part.setAttribute("role", "presentation"); // a signature in lines
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "all pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "this page");
});
