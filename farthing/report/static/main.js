// The report as one file: the document stands in the page.

mount(document.getElementById("report"), JSON.parse(document.getElementById("document").textContent),
  { foot: "One file, made by farthing from a run directory. It asks nothing of the network." });
