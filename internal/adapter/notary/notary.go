// Package notary is the door to signatures of the Notary Project: it opens JWS and
// COSE envelopes, those of AWS Signer among them, and makes them. Nothing is
// fetched to open one: chains end at the roots that are given, revocation is looked
// up in the lists that are given, and time is proven by the time-stamp in the
// envelope. Only where that is asked for, OCSP responders and AWS Signer are asked.
//
// An Opener says what is true of an envelope, or refuses it with a
// *signature.Refusal. Which signer is the right one is for the trust policy to say.
// Of AWS Signer's profiles it must say more than the ARN: any signing authority
// can write any ARN, so that a profile is worth what the store that vouches for it
// is worth.
//
// The envelopes are read by code of our own and not by the project's library,
// because that one reads what is there twice, in another case or in a place where
// nobody signed it, and a reader that decides over images must not. The library is
// what this package is held against (test/notation).
//
// It is not for attestations: the Notary Project has no form for them. Those are
// Sigstore's.
package notary

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/castellan-security/castellan/internal/signature"
)

// ArtifactType is what a manifest that holds an envelope says it is: as the media
// type of its configuration, and it may say so as its artifact type too.
const ArtifactType = "application/vnd.cncf.notary.signature"

// skew is how far clocks may differ before a time of signing lies in the future.
const skew = 5 * time.Minute

// Options are what an Opener may ask besides the roots.
type Options struct {
	// AWS is asked whether AWS Signer has revoked a signature of its own. Without
	// it the revocation of those is not known.
	AWS AWSRevocations
	// OCSP asks the responders that certificates name, but AWS Signer's. Without it
	// nobody is asked.
	OCSP *Responders
}

// Opener opens envelopes. It may be used by several goroutines.
type Opener struct {
	anchors map[signature.StoreKind]map[[sha256.Size]byte]string // by certificate: the name of its store
	tsa     *x509.CertPool                                       // nil without such a store
	lists   []*list
	aws     AWSRevocations
	ocsp    *Responders // nil: nobody is asked
	dec     cbor.DecMode
	chains  *checked
}

// New returns an Opener that holds envelopes against roots: the stores, and the
// revocation lists, which must be readable.
func New(roots signature.Roots, opts Options) (*Opener, error) {
	o := &Opener{anchors: map[signature.StoreKind]map[[sha256.Size]byte]string{}, aws: opts.AWS, ocsp: opts.OCSP, chains: newChecked()}
	for _, s := range roots.Stores {
		if o.anchors[s.Kind] == nil {
			o.anchors[s.Kind] = map[[sha256.Size]byte]string{}
		}
		for _, c := range s.Certificates {
			if s.Kind == signature.StoreTSA {
				if o.tsa == nil {
					o.tsa = x509.NewCertPool()
				}
				o.tsa.AddCert(c)
			}
			key := sha256.Sum256(c.Raw)
			if _, before := o.anchors[s.Kind][key]; !before {
				o.anchors[s.Kind][key] = s.Name
			}
		}
	}
	var err error
	if o.lists, err = readLists(roots.Revoked); err != nil {
		return nil, err
	}
	if o.dec, err = reader(); err != nil {
		return nil, fmt.Errorf("prepare to read CBOR: %w", err)
	}
	return o, nil
}

// Open says what is true of an envelope at a moment, as a signature of the subject.
// An error that is no *signature.Refusal means that it could not find out.
//
// At most one check of a signature is done for an envelope whose root is not known,
// and at most two for each certificate of one whose root is.
func (o *Opener) Open(ctx context.Context, e signature.Envelope, s signature.Subject, at time.Time) (signature.Signed, error) {
	if err := ctx.Err(); err != nil {
		return signature.Signed{}, fmt.Errorf("open a signature: %w", err)
	}
	in, err := o.read(e)
	if err != nil {
		return signature.Signed{}, err
	}
	what, err := readPayload(in.payload)
	if err != nil {
		return signature.Signed{}, err
	}
	if err := what.about(s); err != nil {
		return signature.Signed{}, err
	}
	if err := in.header.check(); err != nil {
		return signature.Signed{}, err
	}
	aws, err := in.header.plugin()
	if err != nil {
		return signature.Signed{}, err
	}
	chain, anchor, err := o.verify(in)
	if err != nil {
		return signature.Signed{}, err
	}
	when, err := o.when(ctx, in, chain, at)
	if err != nil {
		return signature.Signed{}, err
	}
	known, err := o.standing(ctx, in, chain, aws, when, at)
	if err != nil {
		return signature.Signed{}, err
	}
	who, err := identity(chain, anchor, aws)
	if err != nil {
		return signature.Signed{}, err
	}
	return signature.Signed{
		Kind:        signature.Notary,
		Envelope:    e.Digest,
		Way:         e.Way,
		Identity:    who,
		Annotations: what.Annotations,
		At:          when.at,
		Proof:       when.proof,
		Expiry:      in.header.expiry,
		Until:       earlier(earlier(when.until, in.header.expiry), known.until),
		Revocation:  known.state,
	}, nil
}

// read reads an envelope of either form.
func (o *Opener) read(e signature.Envelope) (*sealed, error) {
	if len(e.Payload) > maxEnvelope {
		return nil, signature.Refuse(signature.TooLarge, "the envelope has %d bytes, at most %d are read", len(e.Payload), maxEnvelope)
	}
	switch e.MediaType {
	case JWS:
		return readJWS(e.Payload)
	case COSE:
		return readCOSE(o.dec, e.Payload)
	}
	return nil, signature.Refuse(signature.Unsupported, "an envelope of type %s is not known, want %s or %s", shown(e.MediaType), JWS, COSE)
}

// anchor is the certificate of a store that vouches for a chain.
type anchor struct {
	store string
	cert  *x509.Certificate
}

// verify checks the signature and the chain. What costs least comes first.
func (o *Opener) verify(in *sealed) ([]*x509.Certificate, anchor, error) {
	chain, err := parseChain(in.chain)
	if err != nil {
		return nil, anchor{}, err
	}
	a, err := algorithmOf(chain[0].PublicKey)
	if err != nil {
		return nil, anchor{}, err
	}
	if err := a.checkNamed(in.header.algorithm); err != nil {
		return nil, anchor{}, err
	}
	by, err := o.anchorOf(chain, in.header.scheme)
	if err != nil {
		return nil, anchor{}, err
	}
	if err := a.verify(chain[0].PublicKey, in.covered, in.value); err != nil {
		return nil, anchor{}, err
	}
	return chain, by, o.chains.verify(chain, signing, by.cert == chain[len(chain)-1])
}

// anchorOf finds the certificate of the chain that is in a store of the kind that
// the scheme asks for. Like the project's own trust store it takes authorities, and
// a signer's own certificate only if it is a root.
func (o *Opener) anchorOf(chain []*x509.Certificate, scheme string) (anchor, error) {
	kind := signature.StoreCA
	if scheme == schemeAuthority {
		kind = signature.StoreAuthority
	}
	for i, c := range slices.Backward(chain) {
		if i == 0 && len(chain) > 1 {
			break
		}
		if store, ok := o.anchors[kind][sha256.Sum256(c.Raw)]; ok {
			return anchor{store, c}, nil
		}
	}
	root := chain[len(chain)-1]
	r := signature.Refuse(signature.NoRoot, "no store of the kind %s has the root %s (%s)", kind, named(root), digest(root.Raw))
	r.Remedy = fmt.Sprintf("if it is to be trusted, put its certificate into a store of the kind %s", kind)
	return anchor{}, r
}

// moment is when an envelope was signed, as far as it is known.
type moment struct {
	at     time.Time
	proof  signature.Proof
	proven time.Time // the latest moment it can have been; zero if nobody trusted says
	until  time.Time // when the chain expires, if it has not yet
	stamp  *stamped
}

// when finds out when the envelope was signed, and checks that its certificates
// were valid then.
func (o *Opener) when(ctx context.Context, in *sealed, chain []*x509.Certificate, at time.Time) (moment, error) {
	h, v := in.header, validityOf(chain)
	if !h.expiry.IsZero() && !at.Before(h.expiry) {
		return moment{}, signature.Refuse(signature.Expired, "the signature expired on %s, as its signer wanted", stamp(h.expiry))
	}
	m := moment{at: h.signed.UTC(), proof: signature.Claimed}
	if h.scheme == schemeAuthority {
		m = moment{at: h.vouched.UTC(), proof: signature.Authority, proven: h.vouched}
		if err := v.contains("the image was signed", h.vouched, h.vouched); err != nil {
			return moment{}, err
		}
	}
	expired := at.After(v.to)
	if !expired {
		m.until = v.to
	}
	if h.scheme == schemeX509 && len(in.token) > 0 {
		if err := o.stamp(ctx, in, v, &m, expired); err != nil {
			return moment{}, err
		}
	}
	if m.at.After(at.Add(skew)) {
		r := signature.Refuse(signature.NotYet, "the image was signed on %s, and it is %s", stamp(m.at), stamp(at))
		r.Remedy = "look whether the clocks here and there are right"
		return moment{}, r
	}
	if at.Before(v.from) {
		return moment{}, signature.Refuse(signature.NotYet, "the certificate of %s is valid from %s, and it is %s", named(v.first), stamp(v.from), stamp(at))
	}
	if expired && m.proven.IsZero() {
		r := signature.Refuse(signature.Expired, "the certificate of %s expired on %s, and nothing proves that the image was signed before", named(v.final), stamp(v.to))
		r.Remedy = "sign anew; with a time-stamp a signature outlives its certificate"
		return moment{}, r
	}
	return m, nil
}

// stamp lets the envelope's time-stamp say when it was signed.
func (o *Opener) stamp(ctx context.Context, in *sealed, v validity, m *moment, expired bool) error {
	s, err := readToken(ctx, in.token, in.value, o.tsa, o.chains)
	switch {
	case err == errUnknownTSA && !expired:
		return nil // the certificate is valid still, so that the time need not be proven
	case err == errUnknownTSA:
		r := signature.Refuse(signature.NoTime, "the certificate of %s expired on %s, and no store of the kind %s vouches for the time-stamp", named(v.final), stamp(v.to), signature.StoreTSA)
		r.Remedy = "put the root of the time-stamping authority into a store of the kind tsa"
		return r
	case err != nil:
		return err
	}
	if err := v.contains("the image was signed", s.earliest, s.latest); err != nil {
		return err
	}
	m.at, m.proof, m.proven, m.stamp = s.at, signature.Timestamped, s.latest, &s
	return nil
}

// standing looks up whether the signer's certificates, and the time-stamp's, are
// revoked. The state of the time-stamp's counts where the signature hangs on it.
func (o *Opener) standing(ctx context.Context, in *sealed, chain []*x509.Certificate, aws *awsSigned, when moment, at time.Time) (standing, error) {
	all, err := o.revocation(ctx, chain, when.proven, at, aws == nil)
	if err != nil {
		return standing{}, err
	}
	if aws != nil {
		said, err := aws.revocation(ctx, o.aws, chain, in.header.vouched, at)
		if err != nil {
			return standing{}, err
		}
		if said.state == signature.NotRevoked {
			return standing{said.state, earlier(said.until, all.until)}, nil // AWS speaks of the certificates too
		}
		all = all.and(said)
	}
	if when.stamp != nil {
		tsa, err := o.revocation(ctx, when.stamp.chain, when.proven, at, when.until.IsZero())
		if err != nil {
			return standing{}, err
		}
		if when.until.IsZero() {
			all = all.and(tsa)
		}
	}
	return all, nil
}

// identity says who signed. A certificate of AWS Signer names the service, whoever
// asked it to sign: to tell that name would let a policy that trusts it trust
// everybody who has an account.
func identity(chain []*x509.Certificate, by anchor, aws *awsSigned) (signature.Identity, error) {
	leaf := chain[0]
	key, err := x509.MarshalPKIXPublicKey(leaf.PublicKey) // not as the certificate spells it: the same key is one
	if err != nil {
		return signature.Identity{}, signature.Refuse(signature.Unsupported, "the signer's key: %s", shown(err.Error()))
	}
	id := signature.Identity{
		Key:         digest(key),
		Store:       by.store,
		Root:        digest(by.cert.Raw),
		Certificate: digest(leaf.Raw),
	}
	if aws != nil {
		id.Profile, id.ProfileVersion, id.ProfileAlias, id.Job = aws.profile, aws.version, aws.alias, aws.job
		return id, nil
	}
	name, err := signature.DistinguishedName(leaf.RawSubject)
	if err != nil {
		return signature.Identity{}, signature.Refuse(signature.Malformed, "the signer's certificate has no readable name: %s", shown(err.Error()))
	}
	id.Name = name
	// What reads like a name of another kind is left out: name constraints on the
	// one say nothing of the other.
	add := func(form signature.NameForm, s string) {
		if signature.FormOf(s) == form {
			id.Names = append(id.Names, s)
		}
	}
	for _, s := range leaf.EmailAddresses {
		add(signature.FormMail, s)
	}
	for _, s := range leaf.DNSNames {
		add(signature.FormHost, s)
	}
	for _, u := range leaf.URIs {
		add(signature.FormURI, u.String())
	}
	return id, nil
}
