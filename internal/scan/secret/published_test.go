package secret_test

import (
	"testing"

	"github.com/castellan-security/castellan/internal/scan/secret"
)

// A key that GnuTLS tests itself with is no secret in a program, in whatever package
// that is; in a text it may be in use.
func TestPublishedKeys(t *testing.T) {
	const known = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIOXDJXOU6J6XdXx4WfcyPILPYJDH5bRfm9em+DYMkllw\n-----END PRIVATE KEY-----\n"
	own := keysOf(t)["pkcs8"]
	for _, tc := range []struct {
		name, path, text string
		want             int
	}{
		{"library's own, in a program", "opt/app/bin/server", "\x7fELF\x00\x00" + known + "\x00", 0},
		{"user's own, in a program", "opt/app/bin/server", "\x7fELF\x00\x00" + own + "\x00", 1},
		{"both, in a program", "opt/app/bin/server", "\x7fELF\x00\x00" + known + "\x00" + own + "\x00", 1},
		{"library's own, in a text", "etc/app/tls.pem", known, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			found, err := engine(t).FindText(secret.File{Path: tc.path}, []byte(tc.text))
			if err != nil || len(found) != tc.want {
				t.Errorf("found %v, %v; want %d", lines(found), err, tc.want)
			}
		})
	}
}
