// Package browser has no code of its own: its tests drive Chromium through the web application of
// sqlstore/examples/webapp, with the script that sessionhttp serves, and Chromium and Firefox
// through smaller hosts. They have the build tag browser; make test-browser runs them, and those of
// the script alone in session.test.mjs.
package browser
