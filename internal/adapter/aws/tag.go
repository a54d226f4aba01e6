package aws

import (
	"cmp"
	"context"
	"strings"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"

	"github.com/castellan-security/castellan/internal/admission"
	"github.com/castellan-security/castellan/internal/asset"
	"github.com/castellan-security/castellan/internal/fault"
	"github.com/castellan-security/castellan/internal/inventory"
)

// Digest returns what an image's tag is in ECR now. It is "" for an image of
// another registry, for one that is not there, and for one that may not be looked
// at; an error is one that may pass. It needs the permission ecr:DescribeImages.
func (e *ECR) Digest(ctx context.Context, i admission.Image) (string, error) {
	r, ok := parseHost(i.Registry)
	tag := cmp.Or(i.Tag, "latest")
	if !ok || r.public || !asset.IsRepository(i.Repository) || !asset.IsTag(tag) {
		return "", nil
	}
	what := "look up " + i.Registry + "/" + i.Repository + ":" + tag
	c, err := e.open(ctx, r)
	if err != nil {
		return "", err
	}
	within, cancel := request(ctx)
	defer cancel()
	out, err := c.api.DescribeImages(within, &ecr.DescribeImagesInput{RegistryId: sdk.String(i.Registry[:accountDigits]),
		RepositoryName: sdk.String(i.Repository), ImageIds: []types.ImageIdentifier{{ImageTag: sdk.String(tag)}}})
	if err != nil {
		err = refused(what, err, "ecr:DescribeImages", "ecr.api")
		if fault.Is(err, fault.Exhausted) || fault.Is(err, fault.Unavailable) && !strings.Contains(err.Error(), "ImageNotFound") {
			return "", err
		}
		e.log.Warn("tag not looked up", "image", i.Repository, "tag", tag, "error", err, "remedy", fault.Remedy(err))
		return "", nil
	}
	for _, d := range out.ImageDetails {
		if digest := sdk.ToString(d.ImageDigest); inventory.CheckDigest(digest) == nil {
			return digest, nil
		}
	}
	return "", nil
}
