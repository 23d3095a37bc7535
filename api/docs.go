package api

import (
	"io/fs"
	"net/http"
	"strings"

	swagger "github.com/swaggo/files/v2"
)

// docsPage shows the OpenAPI document with Swagger UI. All that it loads comes
// from here, by relative paths: it works without the Internet and behind a
// proxy's prefix.
const docsPage = `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Sluice API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" type="image/png" href="docs/favicon-32x32.png">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
`

// docsStart keeps the token that a reader enters while the page is reloaded,
// in the browser alone.
const docsStart = `window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  persistAuthorization: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null
});
`

// docsPolicy lets the page load what is ours and nothing else. Swagger UI
// writes styles into its elements and has small images in its style sheet.
const docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
	"connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"

func (s *server) docs(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/") {
		// The page's relative paths hold without the slash.
		http.Redirect(w, r, "../docs", http.StatusMovedPermanently)
		return
	}
	w.Header().Set("Content-Security-Policy", docsPolicy)
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	s.write(w, []byte(docsPage))
}

func (s *server) docsFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	switch name {
	case "start.js":
		w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
		s.write(w, []byte(docsStart))
		return
	case "swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png":
	default:
		s.unknownRoute(w, r)
		return
	}
	if _, err := fs.Stat(swagger.FS, name); err != nil {
		s.unknownRoute(w, r)
		return
	}
	w.Header().Set("Cache-Control", "max-age=3600")
	http.ServeFileFS(w, r, swagger.FS, name)
}

func (s *server) write(w http.ResponseWriter, text []byte) {
	if _, err := w.Write(text); err != nil {
		s.Log.Debug("answer not written", "error", err)
	}
}
