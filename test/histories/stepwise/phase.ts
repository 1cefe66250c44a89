import type { Phase as PresentPhase } from '../../../routing/phase.ts';

/** Actors of that form knew no questions. */
export type Phase = Exclude<PresentPhase, { readonly kind: 'asking' }>;
