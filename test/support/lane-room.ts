import type { LaneRoom } from '../../store/deliveries.ts';

/** No lane has anything under way, and none is ailing. */
export const allRoom: LaneRoom = { roomByLane: new Map(), ailingLanes: [], ailingRoom: 0 };
