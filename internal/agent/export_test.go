package agent

import "github.com/castellan-security/castellan/internal/link"

// KeepCredentials writes what an agent that joined keeps.
func KeepCredentials(dir, server, id string, sign func(id string, csr []byte) (link.Credentials, error)) error {
	key, csr, err := newKey(id)
	if err != nil {
		return err
	}
	got, err := sign(id, csr)
	if err != nil {
		return err
	}
	cert, authority, err := check(got, id, key, "")
	if err != nil {
		return err
	}
	return (&Credentials{dir: dir, server: server}).keep(cert, authority)
}
