package policy

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/signature"
)

// roots collects what a policy trusts.
type roots struct {
	*reader
	files Files
	read  int       // files so far
	sum   hash.Hash // of all that was read

	out    signature.Roots
	keys   map[string]string                // fingerprints by the name of the key
	byKMS  map[string]string                // fingerprints by ARN
	byKey  map[string]string                // names by fingerprint
	stores map[string][]signature.StoreKind // kinds by name
	whole  map[string]map[string]bool       // certificates by store, against repetition
	circle map[string][]string              // fingerprints of the authorities of Sigstore's trusted roots, by name
}

func newRoots(r *reader, files Files) *roots {
	return &roots{
		reader: r, files: files, sum: sha256.New(), keys: map[string]string{}, byKMS: map[string]string{}, byKey: map[string]string{},
		stores: map[string][]signature.StoreKind{}, whole: map[string]map[string]bool{}, circle: map[string][]string{},
	}
}

func (r *roots) digest() string { return "sha256:" + hex.EncodeToString(r.sum.Sum(nil)) }

// section reads the part of the document.
func (r *roots) section(n *yaml.Node) {
	r.Fields(n, "roots", map[string]func(*yaml.Node){
		"keys":     func(n *yaml.Node) { r.named(n, "keys", MaxKeys, r.key) },
		"stores":   func(n *yaml.Node) { r.named(n, "stores", MaxStores, r.store) },
		"sigstore": func(n *yaml.Node) { r.Some(n, "sigstore", MaxStores, r.trusted) },
		"revoked": func(n *yaml.Node) {
			r.Some(n, "revoked", MaxKeys, func(n *yaml.Node) { r.content(n, MaxCRL, r.revoked) })
		},
	})
}

// note adds what was read to the digest of the roots.
func (r *roots) note(b []byte) {
	var size [8]byte
	binary.BigEndian.PutUint64(size[:], uint64(len(b)))
	r.sum.Write(size[:])
	r.sum.Write(b)
}

// content hands over what a value holds or names: a map with file, folder or pem,
// or a file's name.
func (r *roots) content(n *yaml.Node, most int64, use func(*yaml.Node, []byte)) {
	if n.Kind == yaml.ScalarNode {
		r.file(n, most, use)
		return
	}
	r.Fields(n, "this", map[string]func(*yaml.Node){
		"file":   func(n *yaml.Node) { r.file(n, most, use) },
		"folder": func(n *yaml.Node) { r.folder(n, most, use) },
		"pem":    func(n *yaml.Node) { r.inline(n, use) },
	})
}

func (r *roots) inline(n *yaml.Node, use func(*yaml.Node, []byte)) {
	if s, ok := r.Text(n, "pem"); ok {
		r.note([]byte(s))
		use(n, []byte(s))
	}
}

func (r *roots) file(n *yaml.Node, most int64, use func(*yaml.Node, []byte)) {
	if name, ok := r.short(n, "the file's name"); ok {
		r.open(n, name, most, use)
	}
}

func (r *roots) open(n *yaml.Node, name string, most int64, use func(*yaml.Node, []byte)) {
	if r.files == nil {
		r.Wrong(n, "write the content itself below pem:", "files are not read here")
		return
	}
	if r.read++; r.read > MaxFiles {
		if r.read == MaxFiles+1 {
			r.Wrong(n, "", "more than %d files", MaxFiles)
		}
		return
	}
	b, err := r.files.Read(name, most)
	if err != nil {
		r.Wrong(n, "names of files are relative to the policy", "read %s: %v", name, err)
		return
	}
	r.note([]byte(name)) // which folder a file is in is not in the policy's text
	r.note(b)
	use(n, b)
}

func (r *roots) folder(n *yaml.Node, most int64, use func(*yaml.Node, []byte)) {
	name, ok := r.short(n, "the folder's name")
	if !ok {
		return
	}
	if r.files == nil {
		r.Wrong(n, "write the content itself below pem:", "folders are not read here")
		return
	}
	list, err := r.files.List(name, MaxFiles)
	switch {
	case err != nil:
		r.Wrong(n, "names of folders are relative to the policy", "read folder %s: %v", name, err)
	case len(list) == 0:
		r.Wrong(n, "put the certificates there", "folder %s is empty", name)
	}
	for _, f := range list {
		r.open(n, f, most, use)
	}
}

// key reads one key.
func (r *roots) key(name string, key, n *yaml.Node) {
	k := signature.Key{Name: name}
	arn := ""
	sources := 0
	use := func(n *yaml.Node, b []byte) {
		var err error
		if k.Public, err = publicKey(b); err != nil {
			r.Wrong(n, "a public key in PEM is wanted", "key %s: %v", name, err)
		}
	}
	if n.Kind == yaml.ScalarNode {
		sources++
		r.file(n, MaxFile, use)
	} else {
		r.Fields(n, "key "+name, map[string]func(*yaml.Node){
			"file":      func(n *yaml.Node) { sources++; r.file(n, MaxFile, use) },
			"pem":       func(n *yaml.Node) { sources++; r.inline(n, use) },
			"kms":       func(n *yaml.Node) { arn, _ = r.arn(n, "kms", "kms", "key/") },
			"notBefore": func(n *yaml.Node) { k.NotBefore = r.Moment(n, "notBefore") },
			"notAfter":  func(n *yaml.Node) { k.NotAfter = r.Moment(n, "notAfter") },
			"lost":      func(n *yaml.Node) { k.Lost = r.Moment(n, "lost") },
		})
	}
	switch {
	case sources != 1:
		r.Wrong(key, "name a file with the public key, or write it below pem:", "key %s has %d sources: file or pem, one of both", name, sources)
		return
	case !k.NotBefore.IsZero() && !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter):
		r.Wrong(key, "", "key %s ends before it begins", name)
	case k.Public == nil:
		return // told already
	}
	r.add(key, k, arn)
}

// add keeps a key. A key has one name: under two it could be taken for two
// signers.
func (r *roots) add(key *yaml.Node, k signature.Key, arn string) {
	f, err := fingerprint(k.Public)
	if err != nil {
		r.Wrong(key, "", "key %s: %v", k.Name, err)
		return
	}
	if other := r.byKey[f]; other != "" {
		r.Wrong(key, "keep one of both names", "keys %s and %s are the same key", other, k.Name)
		return
	}
	if arn != "" && r.byKMS[arn] != "" {
		r.Wrong(key, "", "keys %s and %s have the same ARN and are different keys", r.byKey[r.byKMS[arn]], k.Name)
		return
	}
	r.keys[k.Name], r.byKey[f] = f, k.Name
	if arn != "" {
		r.byKMS[arn] = f
	}
	r.out.Keys = append(r.out.Keys, k)
}

// arn reads an ARN of a service, whose resource begins with what is given.
func (r *reader) arn(n *yaml.Node, what, service, resource string) (string, bool) {
	s, ok := r.short(n, what)
	if !ok {
		return "", false
	}
	p := strings.SplitN(s, ":", 6)
	if len(p) != 6 || p[0] != "arn" || !strings.HasPrefix(p[1], "aws") || p[2] != service || p[3] == "" ||
		len(p[4]) != 12 || !strings.HasPrefix(p[5], resource) || strings.ContainsAny(s, "* \t") {
		r.Wrong(n, "it looks like arn:aws:"+service+":eu-central-1:123456789012:"+resource+"…", "%s %q is no ARN of that", what, s)
		return "", false
	}
	return s, true
}

// store reads one certificate store.
func (r *roots) store(name string, key, n *yaml.Node) {
	var all []*x509.Certificate
	kinds := []signature.StoreKind{}
	r.whole[name] = map[string]bool{}
	use := func(n *yaml.Node, b []byte) {
		cs, err := certificates(b)
		if err != nil {
			r.Wrong(n, "certificates in PEM or DER are wanted", "store %s: %v", name, err)
		}
		for _, c := range cs {
			if s := sum(c.Raw); !r.whole[name][s] {
				r.whole[name][s] = true
				all = append(all, c)
			}
		}
	}
	r.Fields(n, "store "+name, map[string]func(*yaml.Node){
		"kind": func(n *yaml.Node) {
			r.Some(n, "kind", 3, func(n *yaml.Node) {
				switch k := signature.StoreKind(n.Value); k {
				case signature.StoreCA, signature.StoreAuthority, signature.StoreTSA:
					kinds = append(kinds, k)
				default:
					r.Wrong(n, "ca, signingAuthority or tsa", "store %s: kind %q is not known", name, n.Value)
				}
			})
		},
		"file": func(n *yaml.Node) {
			r.Some(n, "file", MaxFiles, func(n *yaml.Node) { r.file(n, MaxFile, use) })
		},
		"folder": func(n *yaml.Node) { r.folder(n, MaxFile, use) },
		"pem":    func(n *yaml.Node) { r.inline(n, use) },
	})
	if len(kinds) == 0 {
		r.Wrong(key, "kind: ca for signing certificates, signingAuthority for AWS Signer and its like, tsa for time stamps", "store %s has no kind", name)
		return
	}
	if len(all) == 0 {
		r.Wrong(key, "name files or a folder, or write certificates below pem:", "store %s has no certificates", name)
		return
	}
	r.stores[name] = kinds
	for _, k := range kinds {
		r.out.Stores = append(r.out.Stores, signature.Store{Kind: k, Name: name, Certificates: all})
	}
}

func (r *roots) revoked(n *yaml.Node, b []byte) {
	all, err := blocks(b, "X509 CRL")
	if err != nil {
		r.Wrong(n, "a revocation list in PEM or DER is wanted", "revoked: %v", err)
		return
	}
	for _, der := range all {
		if _, err := x509.ParseRevocationList(der); err != nil {
			r.Wrong(n, "", "no revocation list: %v", err)
			return
		}
		r.out.Revoked = append(r.out.Revoked, der)
	}
}
