package policy

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/castellan-security/castellan/internal/signature"
)

// signers reads who may vouch.
type signers struct {
	*roots
	byName map[string]*Signer
	all    []*Signer
	owner  map[string]string // the signer that has a key, by fingerprint
}

func (s *signers) section(n *yaml.Node) { s.named(n, "signers", MaxSigners, s.signer) }

func (s *signers) signer(name string, key, n *yaml.Node) {
	who := &Signer{Name: name, At: at(key)}
	fields := s.ways(who)
	fields["team"] = func(n *yaml.Node) { who.Team = s.Bool(n, "team") }
	fields["identities"] = func(n *yaml.Node) {
		s.Some(n, "identities", MaxIdentities, func(n *yaml.Node) { s.Fields(n, "an identity of "+name, s.ways(who)) })
	}
	if !s.Fields(n, "signer "+name, fields) {
		return
	}
	s.byName[name] = who
	s.all = append(s.all, who)
	if len(who.Identities) == 0 {
		s.Wrong(key, "say by what it is known: key, kms, keyless, certificate or awsSigner", "signer %s is nobody, and there is no signer who is anybody", name)
		return
	}
	for i := range who.Identities {
		s.check(who, &who.Identities[i])
	}
}

// ways are the fields by which a signer is known; each adds an identity.
func (s *signers) ways(who *Signer) map[string]func(*yaml.Node) {
	add := func(n *yaml.Node, i Identity) {
		i.At = at(n)
		if len(who.Identities) < MaxIdentities {
			who.Identities = append(who.Identities, i)
		}
	}
	return map[string]func(*yaml.Node){
		"key": func(n *yaml.Node) {
			s.Some(n, "key", MaxIdentities, func(n *yaml.Node) {
				if f := s.keyOf(n); f != "" {
					add(n, Identity{Key: f})
				}
			})
		},
		"kms": func(n *yaml.Node) {
			s.Some(n, "kms", MaxIdentities, func(n *yaml.Node) {
				arn, ok := s.arn(n, "kms", "kms", "key/")
				if f := s.byKMS[arn]; f != "" {
					add(n, Identity{Key: f})
				} else if ok {
					s.Wrong(n, "nothing is asked of AWS to verify: add the public key to roots.keys, with kms: "+arn, "no key has the ARN %s", arn)
				}
			})
		},
		"keyless": func(n *yaml.Node) {
			s.Some(n, "keyless", MaxIdentities, func(n *yaml.Node) { s.keyless(n, add) })
		},
		"certificate": func(n *yaml.Node) {
			s.Some(n, "certificate", MaxIdentities, func(n *yaml.Node) { s.certificate(n, add) })
		},
		"awsSigner": func(n *yaml.Node) {
			s.Some(n, "awsSigner", MaxIdentities, func(n *yaml.Node) { s.profile(n, add) })
		},
	}
}

// keyOf returns the fingerprint of a key that is named by its name or its
// fingerprint.
func (s *signers) keyOf(n *yaml.Node) string {
	name, ok := s.short(n, "key")
	if !ok {
		return ""
	}
	if f := s.keys[name]; f != "" {
		return f
	}
	if s.byKey[name] != "" {
		return name
	}
	s.Wrong(n, "name a key of roots.keys", "there is no key %s among the roots", name)
	return ""
}

func (s *signers) keyless(n *yaml.Node, add func(*yaml.Node, Identity)) {
	i := Identity{Claims: map[string]Text{}}
	ok := s.Fields(n, "keyless", map[string]func(*yaml.Node){
		"issuer":  func(n *yaml.Node) { i.Issuer = s.pattern(n, "issuer") },
		"subject": func(n *yaml.Node) { i.Subject = s.pattern(n, "subject") },
		"root":    func(n *yaml.Node) { s.bind(n, &i) },
		"claims": func(n *yaml.Node) {
			s.named(n, "claims", MaxIdentities, func(name string, key, v *yaml.Node) {
				if !slices.Contains(claims(), name) {
					s.Wrong(key, "one of "+strings.Join(claims(), ", "), "there is no claim %s", name)
				}
				i.Claims[name] = s.pattern(v, "claim "+name)
			})
		},
	})
	switch {
	case !ok:
		return
	case i.Issuer.Form == "" || i.Subject.Form == "":
		s.Wrong(n, "name both: who vouches for the signer, and whom", "keyless without issuer or subject would accept anybody")
		return
	case len(s.out.Sigstore) == 0:
		s.Wrong(n, "add a trusted_root.json to roots.sigstore; nothing is fetched to verify", "keyless signers need a trusted root of Sigstore")
		return
	case len(s.out.Sigstore) > 1 && i.Root == "":
		s.Wrong(n, "name the trusted roots, roots: {sigstore: [{name: public, file: …}]}, and add root: to the signer", "with several trusted roots a keyless signer must name its own: each of them could vouch for any issuer")
		return
	}
	add(n, i)
}

// store reads the name of a store of one of the kinds.
func (s *signers) storeOf(n *yaml.Node, kinds ...signature.StoreKind) string {
	name, ok := s.short(n, "store")
	if !ok {
		return ""
	}
	have, ok := s.stores[name]
	switch {
	case !ok:
		s.Wrong(n, "name a store of roots.stores", "there is no store %s among the roots", name)
		return ""
	case !slices.ContainsFunc(have, func(k signature.StoreKind) bool { return slices.Contains(kinds, k) }):
		s.Wrong(n, "", "store %s is for %v, and %v is needed", name, have, kinds)
		return ""
	}
	return name
}

func (s *signers) certificate(n *yaml.Node, add func(*yaml.Node, Identity)) {
	var i Identity
	known := s.Fields(n, "certificate", map[string]func(*yaml.Node){
		"store":   func(n *yaml.Node) { i.Store = s.storeOf(n, signature.StoreCA, signature.StoreAuthority) },
		"subject": func(n *yaml.Node) { i.Name = s.subject(n) },
		"names": func(n *yaml.Node) {
			s.Some(n, "names", MaxIdentities, func(n *yaml.Node) { i.Names = append(i.Names, s.pattern(n, "names")) })
		},
		"fingerprint": func(n *yaml.Node) {
			if f, ok := s.short(n, "fingerprint"); ok && !digestLike(f) {
				s.Wrong(n, "sha256: and 64 digits in lower case", "%q is no fingerprint", f)
			} else if ok {
				i.Certificate = f
			}
		},
	})
	switch {
	case !known:
	case i.Store == "":
		s.Wrong(n, "store: the name of a store of roots.stores", "a certificate needs the store that vouches for it: another authority may have issued the same name")
	case len(i.Name) == 0 && len(i.Names) == 0 && i.Certificate == "":
		s.Wrong(n, "name its subject, alternative names, or fingerprint", "every certificate of store %s would be accepted, and there is no signer who is anybody", i.Store)
	default:
		add(n, i)
	}
}

func (s *signers) subject(n *yaml.Node) []Attribute {
	text, ok := s.short(n, "subject")
	if !ok {
		return nil
	}
	const remedy = `write it as RFC 4514 does: "C=DE,O=Acme,CN=release"`
	name, err := ParseName(strings.TrimPrefix(text, "x509.subject:"))
	if err != nil {
		s.Wrong(n, remedy, "%v", err)
		return nil
	}
	seen := map[string]bool{}
	telling := false
	for _, a := range name {
		if seen[a.Type] {
			s.Wrong(n, remedy, "%s twice in a subject", a.Type)
			return nil
		}
		if strings.Contains(a.Value, "*") {
			s.Wrong(n, "leave the attribute out if it may be anything", `"*" has no meaning in a subject`)
			return nil
		}
		seen[a.Type] = true
		telling = telling || slices.Contains([]string{"CN", "O", "OU", "UID", "SERIALNUMBER", "DC", "1.2.840.113549.1.9.1", "EMAILADDRESS"}, a.Type)
	}
	if !telling {
		s.Wrong(n, "add CN, O or OU", "%s names nobody", text)
		return nil
	}
	return name
}

func (s *signers) profile(n *yaml.Node, add func(*yaml.Node, Identity)) {
	var i Identity
	known := s.Fields(n, "awsSigner", map[string]func(*yaml.Node){
		"profile": func(n *yaml.Node) {
			arn, ok := s.short(n, "profile")
			if !ok {
				return
			}
			if err := CheckProfile(arn); err != nil {
				s.Wrong(n, "write "+ProfileForms, "profile: %v", err)
				return
			}
			i.Profile = arn
		},
		"store": func(n *yaml.Node) { i.Store = s.storeOf(n, signature.StoreAuthority) },
	})
	if !known {
		return
	}
	if i.Profile == "" || i.Store == "" {
		s.Wrong(n, "store: the store of kind signingAuthority that holds AWS Signer's root", "awsSigner needs a profile and a store: any other authority could write the same ARN")
		return
	}
	add(n, i)
}

// check refuses signers that are anybody, and keys of two signers.
func (s *signers) check(who *Signer, i *Identity) {
	if stranger := i.open(); stranger != "" {
		s.WrongAt(i.At, "bind it to an owner: https://github.com/OWNER/REPOSITORY/.github/workflows/FILE@refs/tags/*, or a claim source-repository-owner", "%s would also be %s: that is any signer, and a policy can't mean that", i.Form(), stranger)
	}
	if i.Key == "" {
		return
	}
	if other := s.owner[i.Key]; other != "" && other != who.Name {
		s.WrongAt(i.At, "name the signer once, under one name", "signers %s and %s are both the key %s: one signature would be two", other, who.Name, s.byKey[i.Key])
	} else if other == who.Name {
		s.WrongAt(i.At, "name it once", "signer %s has the key %s twice", who.Name, s.byKey[i.Key])
	}
	s.owner[i.Key] = who.Name
}
