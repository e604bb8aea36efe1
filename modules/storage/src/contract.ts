/** What volumes are to storage, whatever keeps them. */
export {
  StorageDriver,
  type ActivationPlan,
  type TemporarySnapshot,
  type LandedImage,
  type PathStaging,
  type ReceivedSubvolume,
  type SendOptions,
  type Snapshot,
  type StagedImage,
  type StorageCapabilities,
  type StorageDesired,
  type StorageRepair,
  type StorageSpace,
  type StreamSource,
  type Volume,
  type VolumePaths,
} from './storage.driver.js';
