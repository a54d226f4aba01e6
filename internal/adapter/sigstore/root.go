package sigstore

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/castellan-security/castellan/internal/signature"
)

// realm is what one trusted root vouches for. What belongs together stays
// together: a certificate of one realm needs the logs and the time of the same.
type realm struct {
	plain       bool // of stores: its authorities may not vouch for OIDC identities
	authorities []*authority
	logs        map[string]*log // transparency logs, by the bytes of their id
	certLogs    map[string]*log // certificate transparency logs
	stamps      []*authority    // time-stamping authorities
}

// log is a transparency log, or one of certificates.
type log struct {
	id      []byte
	key     crypto.PublicKey
	name    string // "sha256:HEX" of its key
	host    string // of its address; "" if the root has none
	spki    []byte
	hash    crypto.Hash
	between window
}

// authority is a certificate authority or a time-stamping authority.
type authority struct {
	store         string // what its realm calls it
	leaf          *x509.Certificate
	root          *x509.Certificate
	intermediates []*x509.Certificate
	pool          *x509.CertPool
	between       window
}

// window is a time from start to end, both of which may be open.
type window struct{ start, end time.Time }

func (w window) holds(t time.Time) bool {
	return (w.start.IsZero() || !t.Before(w.start)) && (w.end.IsZero() || !t.After(w.end))
}

// readRoot reads a trusted root as protobuf-specs' TrustedRoot writes it.
// Fields that are not known are passed over: the user has pinned the document.
func readRoot(doc []byte) (*realm, error) {
	if len(doc) > maxRoot {
		return nil, fmt.Errorf("it has %d bytes, more than %d", len(doc), maxRoot)
	}
	o, err := parseObject(doc)
	if err != nil {
		return nil, err
	}
	media := o.text("mediaType")
	if !strings.HasPrefix(media, "application/vnd.dev.sigstore.trustedroot") {
		return nil, fmt.Errorf("its media type is %q, not that of a trusted root: it is the file that `cosign trusted-root create` or an operator of Sigstore writes", media)
	}
	r := &realm{}
	if r.logs, err = readLogs(o, "tlogs"); err != nil {
		return nil, err
	}
	if r.certLogs, err = readLogs(o, "ctlogs"); err != nil {
		return nil, err
	}
	if r.authorities, err = readAuthorities(o, "certificateAuthorities"); err != nil {
		return nil, err
	}
	if r.stamps, err = readAuthorities(o, "timestampAuthorities"); err != nil {
		return nil, err
	}
	if err := o.err(); err != nil {
		return nil, err
	}
	if len(r.logs)+len(r.authorities)+len(r.stamps) == 0 {
		return nil, errors.New("it trusts nobody: no authority and no log is in it")
	}
	return r, nil
}

// documents takes apart a file with a trusted root a line, as `gh attestation
// trusted-root` writes it.
func documents(file []byte) [][]byte {
	lines := bytes.Split(bytes.TrimSpace(file), []byte("\n"))
	for _, l := range lines {
		if l = bytes.TrimSpace(l); len(lines) > maxInRoot || !bytes.HasPrefix(l, []byte("{")) || !bytes.HasSuffix(l, []byte("}")) {
			return [][]byte{file}
		}
	}
	return lines
}

const maxInRoot = 64 // authorities or logs of one kind; the public root has four

func readLogs(o object, name string) (map[string]*log, error) {
	logs := map[string]*log{}
	for _, l := range o.objects(name, maxInRoot) {
		key := l.object("publicKey")
		raw := key.bytes("rawBytes", maxCertificate)
		id := l.object("logId").bytes("keyId", 64)
		between := readWindow(key.object("validFor"))
		base := l.text("baseUrl")
		if err := o.err(); err != nil {
			return nil, err
		}
		if len(id) == 0 {
			return nil, fmt.Errorf("%s has no logId", l.path)
		}
		parsed, err := newLog(raw, key.text("keyDetails"), base)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", l.path, err)
		}
		parsed.id, parsed.between = id, between
		logs[string(id)] = parsed
	}
	return logs, o.err()
}

func newLog(raw []byte, details, base string) (*log, error) {
	pub, err := x509.ParsePKIXPublicKey(raw)
	if err != nil {
		if old, also := x509.ParsePKCS1PublicKey(raw); also == nil {
			pub, err = old, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("its key (%s): %w", details, err)
	}
	if err := allowed(pub); err != nil {
		return nil, err
	}
	name, spki, err := fingerprint(pub)
	if err != nil {
		return nil, err
	}
	l := &log{key: pub, name: name, spki: spki, hash: hashesOf(pub)[0]}
	if base != "" {
		u, err := url.Parse(base)
		if err != nil {
			return nil, fmt.Errorf("its baseUrl: %w", err)
		}
		l.host = u.Hostname()
	}
	return l, nil
}

func readWindow(o object) window {
	var w window
	for name, t := range map[string]*time.Time{"start": &w.start, "end": &w.end} {
		if s := o.text(name); s != "" {
			parsed, err := time.Parse(time.RFC3339Nano, s)
			if err != nil {
				o.fail(name, "%w", err)
			}
			*t = parsed
		}
	}
	return w
}

func readAuthorities(o object, name string) ([]*authority, error) {
	var all []*authority
	for _, ca := range o.objects(name, maxInRoot) {
		a := &authority{store: storeName(ca.text("uri")), between: readWindow(ca.object("validFor"))}
		certs := ca.object("certChain").objects("certificates", maxChain)
		for i, c := range certs {
			parsed, err := x509.ParseCertificate(c.bytes("rawBytes", maxCertificate))
			switch {
			case err != nil:
				return nil, fmt.Errorf("%s: %w", c.path, err)
			case i == len(certs)-1:
				a.root = parsed
			case i == 0 && !parsed.IsCA:
				a.leaf = parsed
			default:
				a.intermediates = append(a.intermediates, parsed)
			}
		}
		if err := o.err(); err != nil {
			return nil, err
		}
		if a.root == nil {
			return nil, fmt.Errorf("%s has no certificates", ca.path)
		}
		a.pool = x509.NewCertPool()
		a.pool.AddCert(a.root)
		all = append(all, a)
	}
	return all, o.err()
}

// storeName is what the trusted root's authority is called in an identity.
func storeName(uri string) string {
	_, host, found := strings.Cut(uri, "://")
	if !found {
		host = uri
	}
	if host = strings.TrimRight(host, "/"); host == "" {
		return "sigstore:" // no store of plain certificates is called that
	}
	return "sigstore:" + host
}

// storesRealm makes a realm without logs of the stores of plain certificates, nil
// if there are none: who has a certificate authority of their own may sign with
// it in Sigstore's forms, too. For whom somebody is at an OIDC issuer such an
// authority does not count: it could claim anybody.
func storesRealm(stores []signature.Store) *realm {
	r := &realm{plain: true}
	for _, s := range stores {
		for _, c := range s.Certificates {
			a := &authority{store: s.Name, root: c, pool: x509.NewCertPool()}
			a.pool.AddCert(c)
			switch s.Kind {
			case signature.StoreCA:
				r.authorities = append(r.authorities, a)
			case signature.StoreTSA:
				r.stamps = append(r.stamps, a)
			}
		}
	}
	if len(r.authorities)+len(r.stamps) == 0 {
		return nil
	}
	return r
}
