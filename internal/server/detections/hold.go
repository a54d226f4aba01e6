package detections

import (
	"context"

	"github.com/castellan-security/castellan/internal/detect"
)

// Texts returns the documents that hold, for who holds events against them here, and a
// stamp that is another one when they are. Silences are not among them: Take keeps to
// them.
func (s *Service) Texts(ctx context.Context) (texts []detect.Text, stamp string, err error) {
	x, err := s.standing(ctx)
	if err != nil {
		return nil, "", err
	}
	return textsOf(x.documents), x.stamp, nil
}
