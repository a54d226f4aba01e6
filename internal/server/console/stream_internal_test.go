package console

import (
	"crypto/sha256"
	"net/http/httptest"
	"testing"
)

func TestOnlyNewsAreSent(t *testing.T) {
	w := httptest.NewRecorder()
	s := newStream(w)
	for _, html := range []string{"<p>a</p>", "<p>a</p>", "<p>b</p>", "<p>a</p>"} {
		if err := s.sendFrame(frame{messageOf("part", "", []byte(html)), sha256.Sum256([]byte(html))}); err != nil {
			t.Fatal(err)
		}
	}
	const want = "event: part\ndata: <p>a</p>\n\n: \n\nevent: part\ndata: <p>b</p>\n\nevent: part\ndata: <p>a</p>\n\n"
	if got := w.Body.String(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
